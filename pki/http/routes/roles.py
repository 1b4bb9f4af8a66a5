"""Roles."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("LIST", "roles", "pki.roles-list"),
    Route("GET", "roles/{name}", "pki.role-read"),
    Route("POST", "roles/{name}", "pki.role-write"),
    Route("PATCH", "roles/{name}", "pki.role-patch"),
    Route("DELETE", "roles/{name}", "pki.role-delete"),
)
