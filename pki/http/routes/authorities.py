"""Certificate authorities."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("POST", "root/generate/{exported}", "pki.root-generate"),
    Route("POST", "root/rotate/{exported}", "pki.root-generate"),
    Route("POST", "issuers/generate/root/{exported}", "pki.root-generate"),
    Route("POST", "intermediate/generate/{exported}", "pki.intermediate-generate"),
    Route("POST", "issuers/generate/intermediate/{exported}", "pki.intermediate-generate"),
    Route("POST", "intermediate/set-signed", "pki.intermediate-set-signed"),
    Route("POST", "issuers/import/cert", "pki.intermediate-set-signed"),
    Route("POST", "issuers/import/bundle", "pki.intermediate-set-signed"),
    Route("POST", "config/ca", "pki.intermediate-set-signed"),
    Route("POST", "root/sign-intermediate", "pki.sign-intermediate"),
    Route("POST", "issuer/{issuer_ref}/sign-intermediate", "pki.sign-intermediate"),
    Route("DELETE", "root", "pki.root-delete"),
    Route("LIST", "issuers", "pki.issuers-list"),
    Route("GET", "issuer/{issuer_ref}", "pki.issuer-read"),
    Route("POST", "issuer/{issuer_ref}", "pki.issuer-write"),
    Route("PATCH", "issuer/{issuer_ref}", "pki.issuer-write"),
    Route("DELETE", "issuer/{issuer_ref}", "pki.issuer-delete"),
    Route("LIST", "keys", "pki.keys-list"),
    Route("GET", "key/{key_ref}", "pki.key-read"),
    Route("DELETE", "key/{key_ref}", "pki.key-delete"),
)
