"""Public documents."""

from __future__ import annotations

from kms.http.vault.route import Route

# Serials are written aa:bb:...
_SERIAL = frozenset({"serial"})

ROUTES: tuple[Route, ...] = (
    Route("GET", "ca", "pki.ca"),
    Route("GET", "ca/pem", "pki.ca-pem"),
    Route("GET", "ca_chain", "pki.ca-chain"),
    Route("GET", "crl", "pki.crl"),
    Route("GET", "crl/pem", "pki.crl-pem"),
    Route("GET", "crl/delta", "pki.crl-delta"),
    Route("GET", "crl/delta/pem", "pki.crl-delta-pem"),
    # The distribution points of certificates: the URL of the CRL, and the shard.
    Route("GET", "crl/shard/{shard_issuer}/{shard}", "pki.crl-shard"),
    Route("GET", "issuer/{issuer_ref}/crl/shard/{shard_issuer}/{shard}", "pki.crl-shard"),
    Route("GET", "issuer/{issuer_ref}/crl/der/shard/{shard_issuer}/{shard}", "pki.crl-shard"),
    Route("GET", "cert/ca", "pki.cert-ca"),
    Route("GET", "cert/ca_chain", "pki.cert-ca-chain"),
    Route("GET", "cert/crl", "pki.cert-crl"),
    Route("GET", "cert/delta-crl", "pki.cert-delta-crl"),
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
    Route("GET", "issuer/{issuer_ref}/crl/delta", "pki.issuer-crl-delta-json"),
    Route("GET", "issuer/{issuer_ref}/crl/delta/der", "pki.issuer-crl-delta"),
    Route("GET", "issuer/{issuer_ref}/crl/delta/pem", "pki.issuer-crl-delta-pem"),
)
