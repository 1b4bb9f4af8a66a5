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
# (token MACs, audit HMACs, state digests), so that rotating the sealing terms does not change them. A term
# made after a theft carries a second secret behind its sealing key, which takes over what can be taken over.
DERIVATION_TERM = 0
KEY_BYTES = 32
_LENGTH = struct.Struct(">cI").pack


def derive(secret: Sensitive, label: str) -> Sensitive:
    """A 32-byte key for one use. HKDF-SHA256 (RFC 5869), no salt, info = label."""
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"keystead/" + label.encode())
    return Sensitive(hkdf.derive(secret.reveal(ACCESS)))


def _encode(parts: Sequence[Index]) -> bytes:
    return b"".join([_part(part) for part in parts])


def _part(part: Index) -> bytes:
    # The type letter keeps the integer 1 and the string "1" apart.
    if isinstance(part, str):
        raw = part.encode()
        return _LENGTH(b"s", len(raw)) + raw
    if isinstance(part, bytes):
        return _LENGTH(b"b", len(part)) + part
    if isinstance(part, float):
        return _LENGTH(b"f", 8) + struct.pack(">d", part)
    raw = b"%d" % part
    return _LENGTH(b"i", len(raw)) + raw


class RowSealer:
    """Seals and opens rows for one process while the server is unsealed.

    Args:
        instance: the instance id, part of every AAD, so that rows of two servers cannot be mixed.
        terms: keyring term -> 32-byte key, term 0 among them (the derivation secret). With 64 bytes, the second
            half is the derivation secret from this term on.
        load_term: the key of a term that another process added since, or None when there is none.
        ended: terms below this were ended after a theft: their rows are refused.
    """

    def __init__(
        self,
        instance: str,
        terms: Mapping[int, Sensitive],
        load_term: Callable[[int], Sensitive | None] = lambda _term: None,
        ended: int = 0,
    ) -> None:
        self._instance = instance
        self._load_term = load_term
        self._places: dict[str, bytes] = {}  # how the associated data of a table's rows begins
        self.ended = ended
        self._derivations = {DERIVATION_TERM: terms[DERIVATION_TERM]}
        self._derived: dict[str, Sensitive] = {}  # from that term, which never changes
        self._digest_keys = {DERIVATION_TERM: _digest_key(terms[DERIVATION_TERM])}
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
        if term < self.ended:
            return
        raw = key.reveal(ACCESS)
        if len(raw) > KEY_BYTES:
            secret = Sensitive(raw[KEY_BYTES:])
            # New maps instead of changed ones: other threads read them without a lock.
            self._derivations = {**self._derivations, term: secret}
            self._digest_keys = {**self._digest_keys, term: _digest_key(secret)}
        self._ciphers[term] = AESGCM(raw[:KEY_BYTES])
        self.term = max(self.term, term)

    def demand(self, tag: str, term: int) -> None:
        """See that we have this term, which another process may have added. Raises KmsError(INTEGRITY)."""
        self._cipher(tag, term)

    def end(self, below: int) -> None:
        """Refuse rows under terms below this one from now on, and forget their keys."""
        self.ended = max(self.ended, below)
        for term in [term for term in self._ciphers if term < self.ended]:
            del self._ciphers[term]

    def _cipher(self, tag: str, term: int) -> AESGCM:
        if term < self.ended:
            raise integrity(
                f"a stored row of {tag} is sealed under keyring term {term}, which was ended after a theft;"
                " it was put there outside Keystead"
            )
        cipher = self._ciphers.get(term)
        if cipher is None:
            key = self._load_term(term) if term > DERIVATION_TERM else None
            if key is None:
                raise integrity(f"a stored row of {tag} names keyring term {term}, which does not exist")
            self.adopt(term, key)
            cipher = self._ciphers[term]
        return cipher

    def derived(self, label: str) -> Sensitive:
        """A stable 32-byte key of this instance for one named use; labels stand in code and are few."""
        found = self._derived.get(label)
        if found is None:
            found = self._derived[label] = derive(self._derivations[DERIVATION_TERM], label)
        return found

    def derived_anew(self, label: str) -> Sensitive:
        """As `derived`, from the newest secret: another key after a theft of the keyring was mended."""
        return derive(self._derivations[max(self._derivations)], label)

    def _aad(self, tag: str, key: str, term: int, revision: int, index: Sequence[Index]) -> bytes:
        place = self._places.get(tag)
        if place is None:
            place = self._places[tag] = _encode([self._instance, tag, "body"])
        return place + _encode([key, term, revision, *index])

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

    def digest(self, tag: str, key: str, term: int, revision: int, sealed: bytes) -> int:
        """This row's share of its domain's state digest, an integer below 2^256.

        Under the digest key of its own term: once every row was sealed again, the key that a thief has counts for none.
        """
        since = max((known for known in self._digest_keys if known <= term), default=DERIVATION_TERM)
        mac = hmac.new(self._digest_keys[since], _encode([tag, key, revision, sealed]), sha256)
        return int.from_bytes(mac.digest(), "big")


def _digest_key(secret: Sensitive) -> bytes:
    return derive(secret, "state-digest").reveal(ACCESS)
