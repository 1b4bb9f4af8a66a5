"""Roles that are programs."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("LIST", "cel/roles", "pki.cel-roles-list"),
    Route("GET", "cel/roles/{name}", "pki.cel-role-read"),
    Route("POST", "cel/roles/{name}", "pki.cel-role-write"),
    Route("PATCH", "cel/roles/{name}", "pki.cel-role-patch"),
    Route("DELETE", "cel/roles/{name}", "pki.cel-role-delete", envelope=True),
    Route("POST", "cel/issue/{role}", "pki.cel-issue"),
    Route("POST", "cel/sign/{role}", "pki.cel-sign"),
)
