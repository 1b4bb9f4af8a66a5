"""Row encryption: AES-256-GCM under the storage keyring, bound to the row's place.

A row can be opened only where it was sealed: the associated data holds the instance, the table's tag,
the column tag, the key, the keyring term, the row revision and the clear index columns, each with its
length, so no two different places share one encoding.
"""

from __future__ import annotations

import hmac
import os
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kms.errors import integrity
from kms.sensitive import ACCESS, Sensitive

_NONCE = 12
ALLOWANCE = 1024
Index = str | int | float | bytes

# Term 0 of the keyring never seals a row: it is the secret that long-lived keys are derived from
# (token MACs, audit HMACs, state digests), so that rotating the sealing terms does not change them.
DERIVATION_TERM = 0


def derive(secret: Sensitive, label: str) -> Sensitive:
    """A 32-byte key for one use. HKDF-SHA256 (RFC 5869), no salt, info = label."""
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"keystead/" + label.encode())
    return Sensitive(hkdf.derive(secret.reveal(ACCESS)))


def _encode(parts: Sequence[Index]) -> bytes:
    out = bytearray()
    for part in parts:
        # The type letter keeps the integer 1 and the string "1" apart.
        if isinstance(part, bytes):
            kind, raw = b"b", part
        elif isinstance(part, str):
            kind, raw = b"s", part.encode()
        elif isinstance(part, float):
            kind, raw = b"f", struct.pack(">d", part)
        else:
            kind, raw = b"i", str(part).encode()
        out += kind + struct.pack(">I", len(raw)) + raw
    return bytes(out)


class RowSealer:
    """Seals and opens rows for one process while the server is unsealed.

    Args:
        instance: the instance id, part of every AAD, so that rows of two servers cannot be mixed.
        terms: keyring term -> 32-byte key, term 0 among them (the derivation secret).
        load_term: the key of a term that another process added since, or None when there is none.
    """

    def __init__(
        self,
        instance: str,
        terms: Mapping[int, Sensitive],
        load_term: Callable[[int], Sensitive | None] = lambda _term: None,
    ) -> None:
        self._instance = instance
        self._load_term = load_term
        self._derivation = terms[DERIVATION_TERM]
        self._digest_key = derive(self._derivation, "state-digest").reveal(ACCESS)
        self._ciphers: dict[int, AESGCM] = {}
        self._allowance: dict[int, int] = {}
        self._lock = threading.Lock()
        self.term = 0
        for term, key in terms.items():
            if term != DERIVATION_TERM:
                self.adopt(term, key)

    def spend(self, term: int, count: int) -> int:
        """Count `count` uses of a term against this process's allowance.

        Returns:
            How many uses to add to the term's durable count now, 0 mostly. What is left of an
            allowance when the process ends is lost, so the durable count is high, never low.
        """
        with self._lock:
            left = self._allowance.get(term, 0) - count
            drawn = 0
            if left < 0:
                drawn = (-left // ALLOWANCE + 1) * ALLOWANCE
            self._allowance[term] = left + drawn
            return drawn

    def owe(self, term: int, count: int) -> None:
        """Take `count` from the allowance: uses, or a draw, of a transaction that was rolled back."""
        with self._lock:
            self._allowance[term] = self._allowance.get(term, 0) - count

    def adopt(self, term: int, key: Sensitive) -> None:
        """Open rows of this term from now on, and seal new ones with it when it is the newest."""
        self._ciphers[term] = AESGCM(key.reveal(ACCESS))
        self.term = max(self.term, term)

    def _cipher(self, tag: str, term: int) -> AESGCM:
        cipher = self._ciphers.get(term)
        if cipher is None:
            key = self._load_term(term) if term > DERIVATION_TERM else None
            if key is None:
                raise integrity(f"a stored row of {tag} names keyring term {term}, which does not exist")
            self.adopt(term, key)
            cipher = self._ciphers[term]
        return cipher

    def derived(self, label: str) -> Sensitive:
        """A stable 32-byte key of this instance for one named use."""
        return derive(self._derivation, label)

    def _aad(self, tag: str, key: str, term: int, revision: int, index: Sequence[Index]) -> bytes:
        return _encode([self._instance, tag, "body", key, term, revision, *index])

    def seal(
        self, tag: str, key: str, term: int, revision: int, index: Sequence[Index], body: bytes
    ) -> bytes:
        """Ciphertext under `term`: nonce (12) || ciphertext || tag (16)."""
        nonce = os.urandom(_NONCE)
        aad = self._aad(tag, key, term, revision, index)
        return nonce + self._cipher(tag, term).encrypt(nonce, body, aad)

    def open(
        self, tag: str, key: str, term: int, revision: int, index: Sequence[Index], sealed: bytes
    ) -> bytes:
        """The body.

        Raises:
            KmsError(INTEGRITY): not what was sealed at this place.
        """
        cipher = self._cipher(tag, term)
        try:
            return cipher.decrypt(
                sealed[:_NONCE], sealed[_NONCE:], self._aad(tag, key, term, revision, index)
            )
        except (InvalidTag, ValueError):
            raise integrity(
                f"a stored row of {tag} does not verify; it was changed outside Keystead"
            ) from None

    def digest(self, tag: str, key: str, revision: int, sealed: bytes) -> int:
        """This row's share of its domain's state digest, an integer below 2^256."""
        mac = hmac.new(self._digest_key, _encode([tag, key, revision, sealed]), sha256)
        return int.from_bytes(mac.digest(), "big")
