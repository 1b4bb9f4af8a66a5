"""Revocation."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("POST", "revoke", "pki.revoke"),
    Route("POST", "revoke-with-key", "pki.revoke-with-key"),
    Route("POST", "issuer/{issuer_ref}/revoke", "pki.issuer-revoke"),
    Route("POST", "issuer/{issuer_ref}/resign-crls", "pki.resign-crls"),
    Route("POST", "issuer/{issuer_ref}/sign-revocation-list", "pki.sign-revocation-list"),
    Route("GET", "crl/rotate", "pki.crl-rotate"),
    Route("GET", "crl/rotate-delta", "pki.crl-rotate-delta"),
    Route("POST", "tidy", "pki.tidy", status=202),
    Route("GET", "config/auto-tidy", "pki.config-auto-tidy-read"),
    Route("POST", "config/auto-tidy", "pki.config-auto-tidy-write"),
    Route("POST", "tidy-cancel", "pki.tidy-cancel"),
    Route("GET", "tidy-status", "pki.tidy-status"),
)
