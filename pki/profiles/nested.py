"""Extended key usages of issuers, which limit what is below them.

RFC 5280 does not say so, but OpenSSL, NSS, Java, Go and Windows do, and CA/B BR 7.1.5: a leaf for a purpose that an
issuer above it does not have is refused for that purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kms.errors import KmsError, invalid
from pki.profiles.draft import Extensions

Usages = frozenset[x509.ObjectIdentifier]


def of(path: Iterable[x509.Certificate]) -> Usages | None:
    """What all of the issuers allow; None for no limit."""
    allowed: Usages | None = None
    for certificate in path:
        try:
            found = frozenset(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        except x509.ExtensionNotFound:
            continue
        if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in found:
            allowed = found if allowed is None else allowed & found
    return allowed


def check(extensions: Extensions, allowed: Usages | None) -> None:
    """Raises KmsError(INVALID) for a usage that was asked for by name and that nobody would accept."""
    asked = [oid for value, _ in extensions if isinstance(value, x509.ExtendedKeyUsage) for oid in value]
    outside = _outside(asked, allowed)
    if outside:
        raise _refusal(outside)


def fitting(
    asked: Sequence[x509.ObjectIdentifier], allowed: Usages | None, *, all_of_them: bool
) -> tuple[list[x509.ObjectIdentifier], str]:
    """Those usages of a role that the issuer has, and a warning about the others, "" for none.

    A role asks for servers and clients unless told otherwise, so what is left of it is what was meant.

    Raises:
        KmsError(INVALID): none is left, or `all_of_them` must be.
    """
    outside = _outside(asked, allowed)
    if outside and (all_of_them or len(outside) == len(asked)):
        raise _refusal(outside)
    text = f"the issuing CA is not for the extended key usages {_names(outside)}: they were left out"
    return [oid for oid in asked if oid not in outside], text if outside else ""


def _outside(asked: Iterable[x509.ObjectIdentifier], allowed: Usages | None) -> list[x509.ObjectIdentifier]:
    return [] if allowed is None else [oid for oid in asked if oid not in allowed]


def _names(oids: Iterable[x509.ObjectIdentifier]) -> str:
    return ", ".join(oid.dotted_string for oid in oids)


def _refusal(outside: list[x509.ObjectIdentifier]) -> KmsError:
    return invalid(
        f"the issuing CA is not for the extended key usages {_names(outside)}: nobody would accept it"
    )
