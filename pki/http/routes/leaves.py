"""Leaves."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("POST", "issue/{role}", "pki.issue"),
    Route("POST", "sign/{role}", "pki.sign"),
    Route("POST", "issuer/{issuer_ref}/issue/{role}", "pki.issuer-issue"),
    Route("POST", "issuer/{issuer_ref}/sign/{role}", "pki.issuer-sign"),
    Route("POST", "sign-verbatim", "pki.sign-verbatim"),
    Route("POST", "sign-verbatim/{role}", "pki.sign-verbatim"),
    Route("POST", "issuer/{issuer_ref}/sign-verbatim", "pki.issuer-sign-verbatim"),
    Route("POST", "issuer/{issuer_ref}/sign-verbatim/{role}", "pki.issuer-sign-verbatim"),
    Route("POST", "renew", "pki.renew"),
    Route("LIST", "certs", "pki.certs-list"),
    Route("GET", "certs/search", "pki.certs-search"),
    Route("LIST", "certs/detailed", "pki.certs-detailed"),
    Route("LIST", "certs/revoked", "pki.certs-revoked-list"),
)
