"""Routes of mount type "pki". Fixed segments stand before parameters of the same place."""

from __future__ import annotations

from kms.http.vault.route import Route

# Serials are written aa:bb:...
_SERIAL = frozenset({"serial"})

ROUTES: tuple[Route, ...] = (
    # -- certificate authorities
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
    # -- leaves
    Route("POST", "issue/{role}", "pki.issue"),
    Route("POST", "sign/{role}", "pki.sign"),
    Route("POST", "issuer/{issuer_ref}/issue/{role}", "pki.issuer-issue"),
    Route("POST", "issuer/{issuer_ref}/sign/{role}", "pki.issuer-sign"),
    Route("LIST", "certs", "pki.certs-list"),
    Route("LIST", "certs/revoked", "pki.certs-revoked-list"),
    # -- revocation
    Route("POST", "revoke", "pki.revoke"),
    Route("GET", "crl/rotate", "pki.crl-rotate"),
    Route("POST", "tidy", "pki.tidy", status=202),
    Route("POST", "tidy-cancel", "pki.tidy-cancel"),
    Route("GET", "tidy-status", "pki.tidy-status"),
    # -- roles
    Route("LIST", "roles", "pki.roles-list"),
    Route("GET", "roles/{name}", "pki.role-read"),
    Route("POST", "roles/{name}", "pki.role-write"),
    Route("PATCH", "roles/{name}", "pki.role-patch"),
    Route("DELETE", "roles/{name}", "pki.role-delete"),
    # -- settings
    Route("GET", "config/urls", "pki.config-urls-read"),
    Route("POST", "config/urls", "pki.config-urls-write"),
    Route("GET", "config/crl", "pki.config-crl-read"),
    Route("POST", "config/crl", "pki.config-crl-write"),
    Route("GET", "config/issuers", "pki.config-issuers-read"),
    Route("POST", "config/issuers", "pki.config-issuers-write"),
    Route("GET", "config/keys", "pki.config-keys-read"),
    Route("POST", "config/keys", "pki.config-keys-write"),
    # -- public documents
    Route("GET", "ca", "pki.ca"),
    Route("GET", "ca/pem", "pki.ca-pem"),
    Route("GET", "ca_chain", "pki.ca-chain"),
    Route("GET", "crl", "pki.crl"),
    Route("GET", "crl/pem", "pki.crl-pem"),
    Route("GET", "cert/ca", "pki.cert-ca"),
    Route("GET", "cert/ca_chain", "pki.cert-ca-chain"),
    Route("GET", "cert/crl", "pki.cert-crl"),
    Route("GET", "cert/ca/raw", "pki.ca"),
    Route("GET", "cert/ca/raw/pem", "pki.ca-pem"),
    Route("GET", "cert/crl/raw", "pki.crl"),
    Route("GET", "cert/crl/raw/pem", "pki.crl-pem"),
    Route("GET", "cert/{serial}", "pki.cert", free=_SERIAL),
    Route("GET", "cert/{serial}/raw", "pki.cert-raw", free=_SERIAL),
    Route("GET", "cert/{serial}/raw/pem", "pki.cert-raw-pem", free=_SERIAL),
    Route("GET", "issuer/{issuer_ref}/json", "pki.issuer-json"),
    Route("GET", "issuer/{issuer_ref}/der", "pki.issuer-der"),
    Route("GET", "issuer/{issuer_ref}/pem", "pki.issuer-pem"),
    Route("GET", "issuer/{issuer_ref}/crl", "pki.issuer-crl-json"),
    Route("GET", "issuer/{issuer_ref}/crl/der", "pki.issuer-crl"),
    Route("GET", "issuer/{issuer_ref}/crl/pem", "pki.issuer-crl-pem"),
)
