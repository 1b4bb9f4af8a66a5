"""What a certificate says, for lists of many."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from kms.clock import rfc3339
from pki.goodkey import LeafPublicKey, key_type_and_bits


def certificate_info(der: bytes) -> dict[str, Any]:
    """Names, key, issuer and validity; members without a value are left out, as in the peer."""
    certificate = x509.load_der_x509_certificate(der)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    public = certificate.public_key()
    key_type, bits = key_type_and_bits(public) if isinstance(public, LeafPublicKey) else ("", 0)
    info: dict[str, Any] = {
        "common_name": str(common[0].value) if common else "",
        "issuer": certificate.issuer.rfc4514_string(),
        "key_bits": bits,
        "key_type": key_type,
        "not_after": rfc3339(int(certificate.not_valid_after_utc.timestamp())),
        "not_before": rfc3339(int(certificate.not_valid_before_utc.timestamp())),
        **_alternatives(certificate),
    }
    shown = {name: value for name, value in info.items() if value not in ("", [])}
    return {"dns_names": None, **shown}


def _alternatives(certificate: x509.Certificate) -> dict[str, list[str]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {}
    return {
        "dns_names": names.get_values_for_type(x509.DNSName),
        "email_addresses": names.get_values_for_type(x509.RFC822Name),
        "ip_addresses": [str(ip) for ip in names.get_values_for_type(x509.IPAddress)],
        "uris": names.get_values_for_type(x509.UniformResourceIdentifier),
    }
