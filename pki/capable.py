"""What an issuer's own certificate lets it do (keyUsage, RFC 5280 4.2.1.3).

Relying parties refuse certificates and lists whose signer's certificate lacks the bit for them.
"""

from __future__ import annotations

from cryptography import x509

from kms.errors import invalid

USAGES = ("crl-signing", "issuing-certificates", "ocsp-signing", "read-only")
# usage -> its bit, and what the refusal calls the two.
_BITS = {
    "crl-signing": ("crl_sign", "CRLSign", "CRLSigningUsage"),
    "issuing-certificates": ("key_cert_sign", "CertSign", "IssuanceUsage"),
}


def usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """All usages that the certificate allows; without the extension it limits nothing."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return USAGES
    return tuple(usage for usage in USAGES if usage not in _BITS or getattr(found, _BITS[usage][0]))


def check(certificate: x509.Certificate, asked: tuple[str, ...]) -> None:
    """Raises KmsError(INVALID), with the peer's words, for a usage that the certificate does not allow."""
    allowed = usages(certificate)
    for usage in asked:
        if usage not in allowed:
            _, bit, name = _BITS[usage]
            raise invalid(
                f"This issuer's underlying certificate lacks the {bit} KeyUsage value; unable to set {name} on this"
                " issuer as a result."
            )
