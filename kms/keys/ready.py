"""Key versions that are ready to use: cipher objects instead of bytes.

Opening one costs a row's decryption and the parsing of a key; `kms.keys.live` keeps what was opened.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.errors import ErrorKind, KmsError, integrity, invalid
from kms.hsm import Hsm, KeyRef, oaep_encrypt
from kms.keys.aead import Aead, Derivation, HsmAead, software_aead
from kms.keys.catalogue import Duty, Kind
from kms.keys.lost import LostKeyError
from kms.keys.model import KeyVersion, Material, NamedKey, NoMaterial, SoftwareMaterial, to_ref
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
from kms.keys.software import MlkemPrivateKey, derivation, load_private
from kms.keys.usage import Allowance

MlkemPublicKey = mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey
OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class Mac(Protocol):
    """The HMAC key of one version."""

    def compute(self, hash_name: str, data: bytes) -> bytes:
        """HMAC (FIPS 198-1) with hashlib's name of the hash."""
        ...


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


class Cmac(Protocol):
    """The AES-CMAC key of one version."""

    def compute(self, data: bytes) -> bytes:
        """AES-CMAC (SP 800-38B), 16 bytes."""
        ...


class SoftwareCmac:
    """CMAC with the key in memory."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = AES(key)

    def compute(self, data: bytes) -> bytes:
        mac = CMAC(self._key)
        mac.update(data)
        return mac.finalize()


@dataclass(frozen=True, slots=True)
class HsmCmac:
    """CMAC in the HSM."""

    hsm: Callable[[], Hsm]
    ref: KeyRef

    def compute(self, data: bytes) -> bytes:
        return self.hsm().cmac(self.ref, data)


class KeyWrapper:
    """Wraps keys of callers: AES-KWP (RFC 5649) with padding, AES-KW (RFC 3394) without."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def wrap(self, target: bytes, *, padded: bool) -> bytes:
        """The wrapped target; without padding it must be 16 bytes or more in steps of 8."""
        if padded:
            return keywrap.aes_key_wrap_with_padding(self._key, target)
        return keywrap.aes_key_wrap(self._key, target)

    def unwrap(self, wrapped: bytes, *, padded: bool) -> bytes:
        """Inverse of `wrap`.

        Raises:
            cryptography.hazmat.primitives.keywrap.InvalidUnwrap, ValueError: it was not wrapped so.
        """
        if padded:
            return keywrap.aes_key_unwrap_with_padding(self._key, wrapped)
        return keywrap.aes_key_unwrap(self._key, wrapped)


@dataclass(frozen=True, slots=True)
class Kem:
    """ML-KEM (FIPS 203) of one version."""

    public: MlkemPublicKey
    private: MlkemPrivateKey | None

    def encapsulate(self) -> tuple[bytes, bytes]:
        """A fresh shared secret (32 bytes) and the ciphertext that carries it."""
        return self.public.encapsulate()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret; for a forged ciphertext another one, as FIPS 203 wants.

        Raises:
            ValueError: the ciphertext is not of the right length.
            KmsError(INVALID): there is no private key.
        """
        if self.private is None:
            raise invalid("cannot decapsulate, key version does not have a private counterpart")
        return self.private.decapsulate(ciphertext)


@dataclass(frozen=True, slots=True)
class Oaep:
    """RSA encryption with OAEP-SHA256 and no label, as the Vault API fixes it."""

    public: rsa.RSAPublicKey
    private: rsa.RSAPrivateKey | None  # only the public key was imported

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
            KmsError(INVALID): there is no private key.
        """
        if self.private is None:
            raise invalid("cannot decrypt ciphertext, key version does not have a private counterpart")
        return self.private.decrypt(ciphertext, OAEP)


@dataclass(frozen=True, slots=True)
class HsmOaep(Oaep):
    """RSA decryption in the HSM. Encryption needs the public key alone and is done here."""

    hsm: Callable[[], Hsm]
    ref: KeyRef
    hash_name: str

    def encrypt(self, plaintext: bytes) -> bytes:
        """One RSA block.

        Raises:
            KmsError(INVALID): the plaintext is longer than the key allows.
        """
        return oaep_encrypt(self.public, self.hash_name, plaintext)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """The plaintext.

        Raises:
            ValueError: for every kind of bad ciphertext alike.
        """
        try:
            return self.hsm().decrypt_oaep(self.ref, self.hash_name, ciphertext)
        except KmsError as error:
            if error.kind is ErrorKind.INVALID and not isinstance(error, LostKeyError):
                raise ValueError(error.detail) from error
            raise


@dataclass(slots=True)
class ReadyVersion:
    """One opened version. What a key cannot do is None.

    Args:
        derivation: of a derived key, which has no `aead` and no `signer` of its own.
        created: Unix seconds; its cryptoperiod begins then.
    """

    number: int
    mac: Mac
    aead: Aead | None = None
    oaep: Oaep | None = None
    signer: Signer | None = None
    public: PublicKey | None = None
    allowance: Allowance | None = None
    cmac: Cmac | None = None
    derivation: Derivation | None = None
    wrapper: KeyWrapper | None = None
    kem: Kem | None = None
    created: float = 0.0


def open_version(
    key: NamedKey, version: KeyVersion, hsm: Callable[[], Hsm], allowance: Allowance
) -> ReadyVersion:
    """Put the material of a checked version into cipher objects.

    An `hsm` version costs nothing here; the HSM layer loads and checks its blob at first use.
    """
    kind = key.algorithm.kind
    if kind is Kind.MAC:
        return ReadyVersion(version.version, _mac(version.material, hsm))
    if version.mac is None:
        raise integrity(f"version {version.version} of key {key.name} has no HMAC key")
    ready = ReadyVersion(version.version, _mac(version.mac, hsm))
    if version.public:
        _public(ready, version.public)
    if kind is Kind.AEAD:
        ready.allowance = allowance
    if isinstance(version.material, SoftwareMaterial):
        _software(ready, key, version.material.secret)
    elif not isinstance(version.material, NoMaterial):
        _hardware(ready, key, to_ref(version.material), hsm)
        if isinstance(ready.public, rsa.RSAPublicKey) and key.oaep_hash:
            ready.oaep = HsmOaep(ready.public, None, hsm, to_ref(version.material), key.oaep_hash)
    elif isinstance(ready.public, rsa.RSAPublicKey):
        ready.oaep = Oaep(ready.public, None)
    return ready


def _mac(material: Material, hsm: Callable[[], Hsm]) -> Mac:
    if isinstance(material, SoftwareMaterial):
        return SoftwareMac(material.secret)
    if isinstance(material, NoMaterial):
        raise integrity("a version in use has no HMAC key")
    return HsmMac(hsm, to_ref(material))


def _software(ready: ReadyVersion, key: NamedKey, secret: bytes) -> None:
    kind = key.algorithm.kind
    if key.derived:
        ready.derivation = derivation(key, secret)
    elif kind is Kind.AEAD:
        ready.aead = software_aead(key.type, secret)
    elif kind is Kind.CMAC:
        ready.cmac = SoftwareCmac(secret)
    elif kind is Kind.KWP:
        ready.wrapper = KeyWrapper(secret)
    else:
        _private(ready, key, secret)


def _private(ready: ReadyVersion, key: NamedKey, secret: bytes) -> None:
    private = load_private(secret)
    if isinstance(private, rsa.RSAPrivateKey) and isinstance(ready.public, rsa.RSAPublicKey):
        ready.oaep = Oaep(ready.public, private)
        ready.signer = SoftwareRsa(private)
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        ready.signer = SoftwareEc(private)
    elif isinstance(private, MlkemPrivateKey) and ready.kem is not None:
        ready.kem = Kem(ready.kem.public, private)
    elif not isinstance(private, rsa.RSAPrivateKey | MlkemPrivateKey):
        ready.signer = SoftwareEdwards(private)
    else:
        raise integrity(f"key {key.name} holds material of another type")


def _hardware(ready: ReadyVersion, key: NamedKey, ref: KeyRef, hsm: Callable[[], Hsm]) -> None:
    kind = key.algorithm.kind
    if key.purpose in (Duty.DECRYPT, Duty.DERIVE):
        return  # a signature with it is refused by its purpose
    if kind is Kind.AEAD:
        ready.aead = HsmAead(hsm, ref)
    elif kind is Kind.CMAC:
        ready.cmac = HsmCmac(hsm, ref)
    elif kind is Kind.EC:
        ready.signer = HsmEc(hsm, ref)
    elif kind is Kind.EDWARDS:
        ready.signer = HsmEdwards(hsm, ref)
    else:
        ready.signer = HsmRsa(hsm, ref)


def _public(ready: ReadyVersion, spki: bytes) -> None:
    public = load_der_public_key(spki)
    if isinstance(public, MlkemPublicKey):
        ready.kem = Kem(public, None)
    elif isinstance(public, PublicKey):
        ready.public = public
    else:
        raise integrity("a stored public key is of a type that we never make")
