"""Revocation."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("POST", "revoke", "pki.revoke"),
    Route("GET", "crl/rotate", "pki.crl-rotate"),
    Route("GET", "crl/rotate-delta", "pki.crl-rotate-delta"),
    Route("POST", "tidy", "pki.tidy", status=202),
    Route("POST", "tidy-cancel", "pki.tidy-cancel"),
    Route("GET", "tidy-status", "pki.tidy-status"),
)
