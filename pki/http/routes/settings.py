"""Settings."""

from __future__ import annotations

from kms.http.vault.route import Route

ROUTES: tuple[Route, ...] = (
    Route("GET", "config/urls", "pki.config-urls-read"),
    Route("POST", "config/urls", "pki.config-urls-write"),
    Route("GET", "config/crl", "pki.config-crl-read"),
    Route("POST", "config/crl", "pki.config-crl-write"),
    Route("GET", "config/issuers", "pki.config-issuers-read"),
    Route("POST", "config/issuers", "pki.config-issuers-write"),
    Route("GET", "config/cluster", "pki.config-cluster-read"),
    Route("POST", "config/cluster", "pki.config-cluster-write"),
    Route("GET", "config/keys", "pki.config-keys-read"),
    Route("POST", "config/keys", "pki.config-keys-write"),
)
