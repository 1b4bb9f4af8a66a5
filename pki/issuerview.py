"""An issuer as the API shows it to an administrator."""

from __future__ import annotations

from typing import Any

from kms.clock import rfc3339
from kms.tables import Reader
from pki.authority import pem
from pki.model import Issuer
from pki.store import issuers


def issuer_data(reader: Reader, mount_id: str, issuer: Issuer) -> dict[str, Any]:
    """All settings; `revocation_time` only where it was revoked."""
    known = {other.id: other for other in issuers(reader, mount_id)}
    chain = [known[id_] for id_ in issuer.chain if id_ in known]
    data: dict[str, Any] = {
        "ca_chain": [pem(other.certificate) + "\n" for other in chain],
        "certificate": pem(issuer.certificate) + "\n",
        "crl_distribution_points": list(issuer.urls.crl_distribution_points),
        "delta_crl_distribution_points": list(issuer.urls.delta_crl_distribution_points),
        "issuer_id": issuer.id,
        "issuer_name": issuer.name,
        "issuing_certificates": list(issuer.urls.issuing_certificates),
        "key_id": issuer.key_id,
        "leaf_not_after_behavior": issuer.leaf_not_after_behavior,
        "manual_chain": list(issuer.manual_chain) or None,
        "ocsp_servers": list(issuer.urls.ocsp_servers),
        "revocation_signature_algorithm": issuer.revocation_signature_algorithm,
        "revoked": bool(issuer.revoked_at),
        "usage": ",".join(issuer.usage),
    }
    if issuer.urls.enable_templating:
        data["enable_aia_url_templating"] = True
    if issuer.revoked_at:
        data["revocation_time"] = issuer.revoked_at
        data["revocation_time_rfc3339"] = rfc3339(issuer.revoked_at)
    return data
