"""CertificateList in DER (RFC 5280 5.1), from entries that are DER already.

cryptography's builder takes seconds for a hundred thousand entries; here they are joined. What is made here is
parsed by cryptography, compared and linted before it is signed (pki.crl), and tests compare it with the
builder's, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID

from pki import der, schemes
from pki.hsmkey import DrySigner, private_key
from pki.model import Revocation
from pki.profiles.draft import Extensions
from pki.schemes import CaPublicKey

_VERSION_2 = der.integer(1)
_EXTENSIONS = 0xA0
_ENUMERATED = 0x0A
_REASON = der.oid(CRLEntryExtensionOID.CRL_REASON.dotted_string)
# CRLReason (RFC 5280 5.3.1); `unspecified` is said by leaving it out.
_REASONS = {
    "": 0,
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "privilegeWithdrawn": 9,
    "aACompromise": 10,
}
_SIGNATURE = 1  # of TBSCertList, after the version
_THEN = datetime(2026, 1, 1)  # noqa: DTZ001  (cryptography takes naive UTC; of a list that nobody sees)


@dataclass(frozen=True, slots=True)
class Listed:
    """The revoked serials of a CRL: their entries one after another, and how many."""

    entries: bytes
    count: int


def entry(revocation: Revocation) -> bytes:
    """One of revokedCertificates."""
    parts = der.integer(int(revocation.serial, 16)) + der.time(revocation.revoked_at)
    code = reason_code(revocation.reason)
    if code:
        value = der.extension(_REASON, der.tlv(_ENUMERATED, bytes((code,))))
        parts += der.tlv(der.SEQUENCE, value)
    return der.tlv(der.SEQUENCE, parts)


def reason_code(reason: str) -> int:
    """CRLReason's number; 0 for none."""
    return _REASONS[reason]


def listed(revocations: Iterable[Revocation]) -> Listed:
    """Entries in the given order."""
    entries = [entry(revocation) for revocation in revocations]
    return Listed(b"".join(entries), len(entries))


def listed_in(crl: x509.CertificateRevocationList) -> Listed:
    """The entries of a CRL that was made here and whose signature was verified."""
    parts = der.elements(der.content(crl.tbs_certlist_bytes))
    # version, signature, issuer, thisUpdate, nextUpdate, then revokedCertificates where there are any
    if len(parts) > 5 and parts[5][0] == der.SEQUENCE:
        return Listed(der.content(parts[5]), len(crl))
    return Listed(b"", 0)


def signature_algorithm(key: CaPublicKey, scheme: str) -> bytes:
    """AlgorithmIdentifier of a scheme (pki.schemes), as cryptography writes it into an empty list."""
    builder = x509.CertificateRevocationListBuilder(
        x509.Name([]), last_update=_THEN, next_update=_THEN + timedelta(days=1)
    )
    empty: x509.CertificateRevocationList = schemes.build(builder, private_key(key, DrySigner(key)), scheme)
    return der.elements(der.content(empty.tbs_certlist_bytes))[_SIGNATURE]


def to_be_signed(
    algorithm: bytes, issuer: x509.Name, window: tuple[int, int], revoked: Listed, extensions: Extensions
) -> bytes:
    """TBSCertList. `window` is thisUpdate and nextUpdate."""
    added = b"".join(
        der.extension(der.oid(value.oid.dotted_string), value.public_bytes(), critical=critical)
        for value, critical in extensions
    )
    parts = [
        _VERSION_2,
        algorithm,
        issuer.public_bytes(),
        der.time(window[0]),
        der.time(window[1]),
        der.tlv(der.SEQUENCE, revoked.entries) if revoked.count else b"",
        der.tlv(_EXTENSIONS, der.tlv(der.SEQUENCE, added)),
    ]
    return der.tlv(der.SEQUENCE, b"".join(parts))


def signed(tbs: bytes, algorithm: bytes, signature: bytes, after: bytes = b"") -> bytes:
    """The SEQUENCE of what is signed, how, and the signature: CRLs, OCSP answers. `after` stands behind it."""
    return der.tlv(der.SEQUENCE, tbs + algorithm + der.tlv(der.BIT_STRING, b"\x00" + signature) + after)


def few(revoked: Listed, most: int) -> Listed:
    """No more than the first ones."""
    first = der.elements(revoked.entries, most)
    return Listed(b"".join(first), len(first))
