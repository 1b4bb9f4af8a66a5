"""Certificate authorities."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("POST", "root/generate/{exported}", "pki.root-generate"),
    Route("POST", "root/rotate/{exported}", "pki.root-rotate"),
    Route("POST", "issuers/generate/root/{exported}", "pki.root-generate"),
    Route("POST", "intermediate/generate/{exported}", "pki.intermediate-generate"),
    Route("POST", "issuers/generate/intermediate/{exported}", "pki.intermediate-generate"),
    Route("POST", "intermediate/cross-sign", "pki.intermediate-cross-sign"),
    Route("POST", "intermediate/set-signed", "pki.intermediate-set-signed"),
    Route("POST", "issuers/import/cert", "pki.intermediate-set-signed"),
    Route("POST", "issuers/import/bundle", "pki.import-bundle"),
    Route("POST", "config/ca", "pki.import-bundle"),
    Route("POST", "root/replace", "pki.root-replace"),
    Route("POST", "root/sign-self-issued", "pki.sign-self-issued"),
    Route("POST", "issuer/{issuer_ref}/sign-self-issued", "pki.sign-self-issued"),
    Route("POST", "root/sign-intermediate", "pki.sign-intermediate"),
    Route("POST", "issuer/{issuer_ref}/sign-intermediate", "pki.sign-intermediate"),
    Route("DELETE", "root", "pki.root-delete"),
    Route("LIST", "issuers", "pki.issuers-list"),
    Route("GET", "issuer/{issuer_ref}", "pki.issuer-read"),
    Route("POST", "issuer/{issuer_ref}", "pki.issuer-write"),
    Route("PATCH", "issuer/{issuer_ref}", "pki.issuer-patch"),
    Route("DELETE", "issuer/{issuer_ref}", "pki.issuer-delete"),
    Route("LIST", "keys", "pki.keys-list"),
    Route("POST", "keys/generate/internal", "pki.key-generate-internal"),
    Route("POST", "keys/generate/exported", "pki.key-generate-exported"),
    Route("POST", "keys/generate/kms", "pki.key-generate-kms"),
    Route("POST", "keys/import", "pki.key-import"),
    Route("GET", "key/{key_ref}", "pki.key-read"),
    Route("POST", "key/{key_ref}", "pki.key-write"),
    Route("DELETE", "key/{key_ref}", "pki.key-delete"),
)
