"""Keyring terms for the custodians: HPKE (RFC 9180) to a public key whose private half is in shares only.

Only under the recovery choice `quorum`. Whoever brings enough shares and the database opens software
keys and secrets without the HSM; never `hsm` keys, whose bytes no keyring term protects.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from kms.errors import integrity
from kms.keys.keyring import Keyring, Term, keyring_of
from kms.sensitive import ACCESS, Sensitive
from kms.tables import Row

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _info(instance: str, term: int, ended: int) -> bytes:
    parts: list[str | int] = ["keystead recovery", instance, term]
    return msgspec.json.encode([*parts, ended] if ended else parts)


def public_half(secret: Sensitive) -> bytes:
    """Raw X25519 public key of the custodians' secret."""
    return X25519PrivateKey.from_private_bytes(secret.reveal(ACCESS)).public_key().public_bytes_raw()


def to_custodians(public: bytes, instance: str, term: int, key: Sensitive, ended: int = 0) -> bytes:
    """Seal a term, and which terms it ended, to the custodians; b"" without a public key (other recovery choices)."""
    if not public:
        return b""
    recipient = X25519PublicKey.from_public_bytes(public)
    return _SUITE.encrypt(key.reveal(ACCESS), recipient, info=_info(instance, term, ended))


def open_for_custodians(secret: Sensitive, instance: str, rows: Sequence[Row[Term]]) -> Keyring:
    """Every term, opened by the custodians' secret.

    Raises:
        KmsError(INTEGRITY): one was not sealed to them.
    """
    keys = {
        term.term: from_custodians(secret, instance, term.term, term.recovery, term.ended)
        for term in (row.value for row in rows)
    }
    return keyring_of(keys, rows)


def from_custodians(secret: Sensitive, instance: str, term: int, sealed: bytes, ended: int = 0) -> Sensitive:
    """Open what `to_custodians` made.

    Raises:
        KmsError(INTEGRITY): another secret, instance or term.
    """
    private = X25519PrivateKey.from_private_bytes(secret.reveal(ACCESS))
    try:
        return Sensitive(_SUITE.decrypt(sealed, private, info=_info(instance, term, ended)))
    except InvalidTag:
        raise integrity(f"keyring term {term} was not sealed to these custodians") from None
