"""A certificate before it is signed."""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from kms.clock import SystemClock

CA_PROFILE = "ca"  # of CAs that a role makes
CA_PROFILES = frozenset({"root", "intermediate", CA_PROFILE})
_now = SystemClock().now
Extensions = tuple[tuple[x509.ExtensionType, bool], ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that goes into the to-be-signed bytes.

    Args:
        not_after: the last second of validity (RFC 5280 4.1.2.5: inclusive).
        shape: equal for drafts that differ only in serial, times, key and the text of names; such
            drafts pass or fail pkilint together.
        shard: the shard of the CRL that its distribution point names, -1 for none.
    """

    profile: str
    serial: int
    issuer: x509.Name
    subject: x509.Name
    not_before: int
    not_after: int
    public_key: CertificatePublicKeyTypes
    spki: bytes
    extensions: Extensions
    hash_name: str
    shape: Hashable
    shard: int = -1


def new_serial(at: int | None = None) -> int:
    """20 octets, first octet 0x40-0x7f: positive and of constant length; at least 96 random bits.

    Args:
        at: Unix seconds to begin with; the part of the second that has passed is put behind them. Serials are keys of
            rows and of lines of the index, and those that go in one after another change a third of the pages.
    """
    octets = bytearray(secrets.token_bytes(20))
    octets[0] = 0x40 | (octets[0] & 0x3F)
    if at is not None:
        passed = int(_now() % 1 * (1 << 24))
        octets[:8] = ((0x40 << 56) + (at << 24) + passed).to_bytes(8, "big")
    return int.from_bytes(octets, "big")


def utc(seconds: int) -> datetime:
    """Seconds since the epoch as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def builder(draft: Draft) -> x509.CertificateBuilder:
    """The draft in cryptography's terms; building it twice gives the same bytes."""
    return x509.CertificateBuilder(
        issuer_name=draft.issuer,
        subject_name=draft.subject,
        public_key=draft.public_key,
        serial_number=draft.serial,
        not_valid_before=utc(draft.not_before).replace(tzinfo=None),
        not_valid_after=utc(draft.not_after).replace(tzinfo=None),
        extensions=[x509.Extension(value.oid, critical, value) for value, critical in draft.extensions],
    )
