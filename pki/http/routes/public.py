"""Public documents."""

from __future__ import annotations

from kms.http.vault.route import Route

# Serials are written aa:bb:...
_SERIAL = frozenset({"serial"})

ROUTES: tuple[Route, ...] = (
    Route("GET", "ca", "pki.ca", document=True),
    Route("GET", "ca/pem", "pki.ca-pem", document=True),
    Route("GET", "ca_chain", "pki.ca-chain", document=True),
    Route("GET", "crl", "pki.crl", document=True),
    Route("GET", "crl/pem", "pki.crl-pem", document=True),
    Route("GET", "crl/delta", "pki.crl-delta", document=True),
    Route("GET", "crl/delta/pem", "pki.crl-delta-pem", document=True),
    # The distribution points of certificates: the URL of the CRL, and the shard.
    Route("GET", "crl/shard/{shard_issuer}/{shard}", "pki.crl-shard", document=True),
    Route("GET", "issuer/{issuer_ref}/crl/shard/{shard_issuer}/{shard}", "pki.crl-shard", document=True),
    Route("GET", "issuer/{issuer_ref}/crl/der/shard/{shard_issuer}/{shard}", "pki.crl-shard", document=True),
    Route("GET", "cert/ca", "pki.cert-ca"),
    Route("GET", "cert/ca_chain", "pki.cert-ca-chain"),
    Route("GET", "cert/crl", "pki.cert-crl"),
    Route("GET", "cert/delta-crl", "pki.cert-delta-crl"),
    Route("GET", "cert/ca/raw", "pki.ca", document=True),
    Route("GET", "cert/ca/raw/pem", "pki.ca-pem", document=True),
    Route("GET", "cert/crl/raw", "pki.crl", document=True),
    Route("GET", "cert/crl/raw/pem", "pki.crl-pem", document=True),
    Route("GET", "cert/{serial}", "pki.cert", free=_SERIAL),
    Route("GET", "cert/{serial}/raw", "pki.cert-raw", free=_SERIAL),
    Route("GET", "cert/{serial}/raw/pem", "pki.cert-raw-pem", free=_SERIAL),
    Route("GET", "issuer/{issuer_ref}/json", "pki.issuer-json"),
    Route("GET", "issuer/{issuer_ref}/der", "pki.issuer-der", document=True),
    Route("GET", "issuer/{issuer_ref}/pem", "pki.issuer-pem", document=True),
    Route("GET", "issuer/{issuer_ref}/crl", "pki.issuer-crl-json"),
    Route("GET", "issuer/{issuer_ref}/crl/der", "pki.issuer-crl", document=True),
    Route("GET", "issuer/{issuer_ref}/crl/pem", "pki.issuer-crl-pem", document=True),
    Route("GET", "issuer/{issuer_ref}/crl/delta", "pki.issuer-crl-delta-json"),
    Route("GET", "issuer/{issuer_ref}/crl/delta/der", "pki.issuer-crl-delta", document=True),
    Route("GET", "issuer/{issuer_ref}/crl/delta/pem", "pki.issuer-crl-delta-pem", document=True),
)
