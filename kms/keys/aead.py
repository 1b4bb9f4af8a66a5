"""Authenticated encryption with one key, wherever it is; and with keys derived from it per context.

derived      HKDF-SHA256(key, no salt, info = context) gives the key of a context
convergent   the same gives a second key, and the nonce is HMAC-SHA256(second key, plaintext) cut to
             size: equal plaintexts in one context give equal ciphertexts, and nothing else does

Both byte for byte as in the Vault API, so that what was encrypted there is decrypted here.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kms.hsm import Hsm, KeyRef

TAG_BYTES: Final = 16
_SEED_BYTES: Final = 32
_MAC_KEY_BYTES: Final = 32
_HNONCE_BYTES: Final = 16
_MASK: Final = 0xFFFFFFFF
_SIGMA: Final = b"expand 32-byte k"
_ROW: Final = struct.Struct("<4I")


class Aead(Protocol):
    """AES-GCM or (X)ChaCha20-Poly1305, wherever the key is.

    Raises:
        cryptography.exceptions.InvalidTag, or KmsError(INVALID): decrypt of what was not sealed so.
    """

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext || tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """The plaintext."""
        ...


@dataclass(frozen=True, slots=True)
class HsmAead:
    """AES-GCM in the HSM; the nonce is ours."""

    hsm: Callable[[], Hsm]
    ref: KeyRef

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self.hsm().encrypt(self.ref, nonce, data, associated_data or b"")

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self.hsm().decrypt(self.ref, nonce, data, associated_data or b"")


class XChaCha20Poly1305:
    """XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): a 24-byte nonce, random without a bound of uses.

    HChaCha20 of the first 16 nonce bytes gives the key, the rest gives the nonce, of ChaCha20-Poly1305.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self._inner(nonce).encrypt(_tail(nonce), data, associated_data)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self._inner(nonce).decrypt(_tail(nonce), data, associated_data)

    def _inner(self, nonce: bytes) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(hchacha20(self._key, nonce[:_HNONCE_BYTES]))


def _tail(nonce: bytes) -> bytes:
    return bytes(4) + nonce[_HNONCE_BYTES:]


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The 32-byte subkey of a 16-byte nonce.

    A ChaCha20 block is the rounds' result plus the initial state; HChaCha20 is the first and last row
    of that result. Both rows of the initial state are public, so they are taken off again.
    """
    block = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    return _minus(block[:16], _SIGMA) + _minus(block[48:], nonce)


def _minus(words: bytes, initial: bytes) -> bytes:
    pairs = zip(_ROW.unpack(words), _ROW.unpack(initial), strict=True)
    return _ROW.pack(*((word - start) & _MASK for word, start in pairs))


def software_aead(type_: str, key: bytes) -> Aead:
    """The cipher of a symmetric key type over key bytes in memory."""
    return _CIPHERS[type_](key)


_CIPHERS: Final[dict[str, Callable[[bytes], Aead]]] = {
    "aes128-gcm96": AESGCM,
    "aes256-gcm96": AESGCM,
    "chacha20-poly1305": ChaCha20Poly1305,
    "xchacha20-poly1305": XChaCha20Poly1305,
}


def hkdf(secret: bytes, context: bytes, size: int) -> bytes:
    """HKDF-SHA256 (RFC 5869) with no salt."""
    return HKDF(hashes.SHA256(), size, salt=None, info=context).derive(secret)


@dataclass(frozen=True, slots=True)
class ContextKey:
    """The key of one context. `nonce` gives the convergent nonce of a plaintext, if there is one."""

    aead: Aead
    nonce: Callable[[bytes], bytes] | None


class Derivation:
    """A key from which the keys of contexts are derived; software only. Never used itself."""

    __slots__ = ("_bytes", "_convergent", "_nonce_bytes", "_secret", "_type")

    def __init__(
        self, type_: str, secret: bytes, key_bytes: int, nonce_bytes: int, *, convergent: bool
    ) -> None:
        self._type = type_
        self._secret = secret
        self._bytes = key_bytes
        self._nonce_bytes = nonce_bytes
        self._convergent = convergent

    def cipher(self, context: bytes) -> ContextKey:
        """The AEAD of a context."""
        size = self._bytes
        if not self._convergent:
            return ContextKey(software_aead(self._type, hkdf(self._secret, context, size)), None)
        both = hkdf(self._secret, context, size + _MAC_KEY_BYTES)
        mac_key, length = both[size:], self._nonce_bytes
        return ContextKey(
            software_aead(self._type, both[:size]),
            lambda plaintext: hmac.digest(mac_key, plaintext, "sha256")[:length],
        )

    def signer(self, context: bytes) -> Ed25519PrivateKey:
        """The Ed25519 key of a context."""
        return Ed25519PrivateKey.from_private_bytes(hkdf(self._secret, context, _SEED_BYTES))


__all__ = [
    "TAG_BYTES",
    "Aead",
    "ContextKey",
    "Derivation",
    "HsmAead",
    "XChaCha20Poly1305",
    "hchacha20",
    "hkdf",
    "software_aead",
]
