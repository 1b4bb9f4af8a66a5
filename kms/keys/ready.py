"""Key versions that are ready to use: cipher objects instead of bytes.

Opening one costs a row's decryption and the parsing of a key; `kms.keys.live` keeps what was opened.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from kms.errors import integrity, invalid
from kms.hsm import Hsm, KeyRef
from kms.keys.catalogue import Kind
from kms.keys.model import KeyVersion, Material, NamedKey, SoftwareMaterial, to_ref
from kms.keys.signing import (
    HsmEc,
    HsmEdwards,
    HsmRsa,
    PublicKey,
    Signer,
    SoftwareEc,
    SoftwareEdwards,
    SoftwareRsa,
)
from kms.keys.usage import Allowance

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class Aead(Protocol):
    """AES-GCM or ChaCha20-Poly1305, wherever the key is.

    Raises:
        cryptography.exceptions.InvalidTag, or KmsError(INVALID): decrypt of what was not sealed so.
    """

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext || tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """The plaintext."""
        ...


class Mac(Protocol):
    """The HMAC key of one version."""

    def compute(self, hash_name: str, data: bytes) -> bytes:
        """HMAC (FIPS 198-1) with hashlib's name of the hash."""
        ...


@dataclass(frozen=True, slots=True)
class HsmAead:
    """AES-256-GCM in the HSM; the nonce is ours."""

    hsm: Callable[[], Hsm]
    ref: KeyRef

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self.hsm().encrypt(self.ref, nonce, data, associated_data or b"")

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self.hsm().decrypt(self.ref, nonce, data, associated_data or b"")


class SoftwareMac:
    """HMAC with the key in memory."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def compute(self, hash_name: str, data: bytes) -> bytes:
        return hmac.digest(self._key, data, hash_name)


@dataclass(frozen=True, slots=True)
class HsmMac:
    """HMAC in the HSM."""

    hsm: Callable[[], Hsm]
    ref: KeyRef

    def compute(self, hash_name: str, data: bytes) -> bytes:
        return self.hsm().mac(self.ref, hash_name.replace("_", "-"), data)


@dataclass(frozen=True, slots=True)
class Oaep:
    """RSA encryption with OAEP-SHA256 and no label, as the Vault API fixes it."""

    public: rsa.RSAPublicKey
    private: rsa.RSAPrivateKey

    def encrypt(self, plaintext: bytes) -> bytes:
        """One RSA block.

        Raises:
            KmsError(INVALID): the plaintext is longer than the key allows.
        """
        limit = self.public.key_size // 8 - 2 * 32 - 2
        if len(plaintext) > limit:
            raise invalid(
                f"the plaintext is too long for this RSA key: at most {limit} bytes; use a data key"
            )
        return self.public.encrypt(plaintext, OAEP)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """The plaintext.

        Raises:
            ValueError: for every kind of bad ciphertext alike.
        """
        return self.private.decrypt(ciphertext, OAEP)


@dataclass(slots=True)
class ReadyVersion:
    """One opened version. What a key cannot do is None."""

    number: int
    mac: Mac
    aead: Aead | None = None
    oaep: Oaep | None = None
    signer: Signer | None = None
    public: PublicKey | None = None
    allowance: Allowance | None = None


_Parts = tuple[Aead | None, Oaep | None, Signer | None]


def open_version(
    key: NamedKey, version: KeyVersion, hsm: Callable[[], Hsm], allowance: Allowance
) -> ReadyVersion:
    """Put the material of a checked version into cipher objects.

    An `hsm` version costs nothing here; the HSM layer loads and checks its blob at first use.
    """
    kind = key.algorithm.kind
    material = version.material
    if kind is Kind.MAC:
        return ReadyVersion(version.version, _mac(material, hsm))
    if version.mac is None:
        raise integrity(f"version {version.version} of key {key.name} has no HMAC key")
    public = _public(version.public) if version.public else None
    if isinstance(material, SoftwareMaterial):
        aead, oaep, signer = _software(key, material.secret, public)
    else:
        aead, oaep, signer = _hardware(kind, to_ref(material), hsm)
    return ReadyVersion(
        version.version, _mac(version.mac, hsm), aead, oaep, signer, public, allowance if aead else None
    )


def _mac(material: Material, hsm: Callable[[], Hsm]) -> Mac:
    if isinstance(material, SoftwareMaterial):
        return SoftwareMac(material.secret)
    return HsmMac(hsm, to_ref(material))


def _software(key: NamedKey, secret: bytes, public: PublicKey | None) -> _Parts:
    if key.algorithm.kind is Kind.AEAD:
        return (AESGCM(secret) if key.type.startswith("aes") else ChaCha20Poly1305(secret)), None, None
    # The consistency of our own key pair was checked when it was made, and the row is sealed.
    private = load_der_private_key(secret, None, unsafe_skip_rsa_key_validation=True)
    if isinstance(private, rsa.RSAPrivateKey) and isinstance(public, rsa.RSAPublicKey):
        return None, Oaep(public, private), SoftwareRsa(private)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return None, None, SoftwareEc(private)
    if isinstance(private, Ed25519PrivateKey):
        return None, None, SoftwareEdwards(private)
    raise integrity(f"key {key.name} holds material of another type")


def _hardware(kind: Kind, ref: KeyRef, hsm: Callable[[], Hsm]) -> _Parts:
    if kind is Kind.AEAD:
        return HsmAead(hsm, ref), None, None
    if kind is Kind.EC:
        return None, None, HsmEc(hsm, ref)
    if kind is Kind.EDWARDS:
        return None, None, HsmEdwards(hsm, ref)
    return None, None, HsmRsa(hsm, ref)


def _public(spki: bytes) -> PublicKey:
    public = load_der_public_key(spki)
    if not isinstance(public, PublicKey):
        raise integrity("a stored public key is of a type that we never make")
    return public
