"""Bringing keys of one's own (BYOK), and handing exportable ones to another such server.

The caller wraps with the mount's RSA-4096 wrapping key, as CKM_RSA_AES_KEY_WRAP does:

    base64( RSA-OAEP(ephemeral AES-256 key) || AES-KWP(ephemeral key, target) )

where the target is raw bytes for symmetric types and PKCS#8 DER for pairs. A public key alone can be
imported too, and its private half later, if they belong together. The hash of OAEP is the caller's
choice; every way in which unwrapping can fail gets one answer.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from os import urandom
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_public_key,
)
from msgspec.structs import replace

from kms.errors import KmsError, integrity, invalid
from kms.ids import check_name, new_id
from kms.keys.birth import activate, facts, named
from kms.keys.catalogue import (
    ALGORITHMS,
    HMAC_BYTES,
    MAX_HMAC_BYTES,
    MIN_HMAC_BYTES,
    Algorithm,
    Kind,
    Protection,
)
from kms.keys.core import Core, active_version, insert
from kms.keys.export import Exports, bytes_of
from kms.keys.hsmimport import MAX_CIPHERTEXT_CHARACTERS, HsmImports, Sent
from kms.keys.lifecycle import Wish, check_use, check_version_use, plan, refuse_soft_deleted
from kms.keys.model import (
    ImportKey,
    KeyVersion,
    Material,
    NamedKey,
    NoMaterial,
    SoftwareMaterial,
    VersionState,
)
from kms.keys.software import PrivateKey, load_private, pair, type_of
from kms.keys.states import Act
from kms.keys.store import IMPORT_KEYS, KEY_VERSIONS, NAMED_KEYS, name_key, version_key
from kms.operation import Change, External, Outcome, Result
from kms.tables import Transaction

WRAPPING_BITS: Final = 4096
_WRAPPING_BYTES: Final = WRAPPING_BITS // 8
_EPHEMERAL_BYTES: Final = 32
_SMALLEST_KWP: Final = 16
_UNWRAP: Final = (
    "the ciphertext cannot be unwrapped; wrap the key with this mount's wrapping_key, an AES-256 key, "
    "and the hash_function that the request names"
)
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "SHA1": hashes.SHA1(),  # noqa: S303  (OAEP does not rest on collisions; HSMs that know no other need it)
    "SHA224": hashes.SHA224(),
    "SHA256": hashes.SHA256(),
    "SHA384": hashes.SHA384(),
    "SHA512": hashes.SHA512(),
}
_EXISTS: Final = (
    "the import path cannot be used with an existing key; "
    "use import-version to rotate an existing imported key"
)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a caller sends: wrapped key material, or a public key in PEM; "" stands for none."""

    ciphertext: str = ""
    public_key: str = ""
    hash_function: str = "SHA256"


class Imports:
    """The verbs. One per process."""

    def __init__(self, core: Core, exports: Exports) -> None:
        self._core = core
        self._exports = exports
        self.hsm = HsmImports(core)

    def resolve(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """What a crash left of a wrapping key in the HSM (`Operation.resolve`)."""
        return self.hsm.resolve(intent)

    def wrapping_key(self, mount_id: str) -> Outcome:
        """The public half, in PEM; the pair is made when it is asked for first."""
        row = self._core.store.reader().get(IMPORT_KEYS, mount_id)
        if row is not None:
            return _shown(row.value)
        private = rsa.generate_private_key(public_exponent=65537, key_size=WRAPPING_BITS)
        material, public = pair(private)
        made = ImportKey(created=self._core.clock.now(), material=material, public=public)

        def write(tx: Transaction) -> Result:
            other = tx.get(IMPORT_KEYS, mount_id)
            return _shown(other.value if other else tx.insert(IMPORT_KEYS, mount_id, made).value)

        return Change(write)

    def new(self, mount_id: str, name: str, wish: Wish, parcel: Parcel, *, allow_rotation: bool) -> Outcome:
        """A new key with the imported material as its first version."""
        check_name(name, "key name")
        if wish.type not in ALGORITHMS:
            raise invalid(f"unknown key type: {wish.type}")
        if wish.auto_rotate_period and not allow_rotation:
            raise invalid("allow_rotation must be set to true if auto-rotation is enabled")
        algorithm = ALGORITHMS[wish.type]
        if wish.protection == Protection.HSM.value:
            sent = _sent(algorithm, parcel)
            return self.hsm.new(mount_id, name, wish, sent, allow_rotation=allow_rotation, exists=_EXISTS)
        material, public = self._unpack(mount_id, algorithm, parcel)
        now = self._core.clock.now()
        size = _size(algorithm, material)
        planned = replace_wish(wish, size)
        key = replace(
            plan(new_id(), mount_id, name, planned, now),
            imported=True,
            allow_rotation=allow_rotation,
            rotated=now,
        )
        self._core.admit(key)
        version = _version(key, 1, now, material, public)

        def write(tx: Transaction) -> Result:
            if tx.get(NAMED_KEYS, name_key(mount_id, name)) is not None:
                raise invalid(_EXISTS)
            insert(tx, key, version)
            return Result(subject=facts(key, 1) | {"public_only": int(isinstance(material, NoMaterial))})

        return Change(write)

    def version(self, mount_id: str, name: str, parcel: Parcel, number: int | None) -> Outcome:
        """A further version; or, with a number, the private half of one that has only its public key."""
        row = self._core.row(mount_id, name)
        if row is None:
            raise invalid(f"no key found with name {name}; to import a new key, use the import/ endpoint")
        key = row.value
        if not key.imported:
            raise invalid("the import_version endpoint can only be used with an imported key")
        refuse_soft_deleted(key)
        check_use(key, Act.ROTATE, self._core.clock.now())
        if key.protection is Protection.HSM:
            if number is not None:
                raise invalid("private key imported, key version cannot be updated")
            return self.hsm.version(mount_id, key, _sent(key.algorithm, parcel))
        material, public = self._unpack(mount_id, key.algorithm, parcel)
        if number is not None:
            return self._complete(key, number, material, public)
        now = self._core.clock.now()

        def write(tx: Transaction) -> Result:
            newest = named(tx, key).value.allotted + 1
            made = _version(key, newest, now, material, public)
            tx.insert(KEY_VERSIONS, version_key(key.id, newest), made)
            activate(tx, key, made, imported=True)
            return Result(subject=facts(key, newest))

        return Change(write)

    def _complete(self, key: NamedKey, number: int, material: Material, public: bytes) -> Change:
        if not key.algorithm.title:
            raise invalid("provided type does not support importing key versions")

        def write(tx: Transaction) -> Result:
            row = active_version(tx, named(tx, key).value, number, "no such key version")
            if not isinstance(row.value.material, NoMaterial):
                raise invalid("private key imported, key version cannot be updated")
            if isinstance(material, NoMaterial):
                raise invalid("the version has its public key already; send the private key as ciphertext")
            if public != row.value.public:
                raise invalid("cannot import key, key pair does not match")
            tx.replace(KEY_VERSIONS, row, replace(row.value, material=material))
            return Result(subject=facts(key, number))

        return Change(write)

    def _unpack(self, mount_id: str, algorithm: Algorithm, parcel: Parcel) -> tuple[Material, bytes]:
        algorithm_of_hash = _HASHES.get(parcel.hash_function.upper())
        if algorithm_of_hash is None:
            raise invalid(f"unknown hash function: {parcel.hash_function}")
        if parcel.ciphertext:
            return read_target(algorithm, self._unwrap(mount_id, parcel.ciphertext, algorithm_of_hash))
        if not algorithm.title:
            raise invalid("provided type does not support public_key import")
        return NoMaterial(), read_public(algorithm, parcel.public_key)

    def _unwrap(self, mount_id: str, ciphertext: str, oaep_hash: hashes.HashAlgorithm) -> bytes:
        try:
            data = b64decode(ciphertext, validate=True)
        except ValueError:
            raise invalid("the ciphertext is not base64") from None
        if len(data) < _WRAPPING_BYTES + _SMALLEST_KWP:
            raise invalid("provided ciphertext is too short")
        if len(ciphertext) > MAX_CIPHERTEXT_CHARACTERS:
            raise invalid("the ciphertext is longer than any key")
        row = self._core.store.reader().get(IMPORT_KEYS, mount_id)
        if row is None:
            raise invalid("this mount has no wrapping key yet; read wrapping_key first")
        private = load_private(bytes_of(row.value.material))
        if not isinstance(private, rsa.RSAPrivateKey):
            raise integrity("a mount's wrapping key is of another type")
        try:
            ephemeral = private.decrypt(data[:_WRAPPING_BYTES], _oaep(oaep_hash))
            if len(ephemeral) != _EPHEMERAL_BYTES:
                raise ValueError(len(ephemeral))  # noqa: TRY301  (one answer for all, below)
            return keywrap.aes_key_unwrap_with_padding(ephemeral, data[_WRAPPING_BYTES:])
        except (ValueError, keywrap.InvalidUnwrap):
            raise invalid(_UNWRAP) from None

    # -- handing on -------------------------------------------------------------------------------

    def export(self, mount_id: str, destination: str, source: str, which: str) -> Result:
        """Versions of an exportable key, wrapped for the holder of an RSA key that was imported here."""
        to = self._core.row(mount_id, destination)
        if to is None:
            raise invalid("no such destination key to export to")
        row = self._core.row(mount_id, source)
        if row is None:
            raise invalid("no such source key for export")
        key = row.value
        refuse_soft_deleted(key)
        if not key.exportable:
            raise invalid("key is not exportable")
        check_use(key, Act.EXPORT, self._core.clock.now())
        if to.value.algorithm.kind is not Kind.RSA:
            raise invalid("unsupported key type in use; must be a rsa key")
        newest = active_version(
            self._core.store.reader(), to.value, to.value.latest_version, "no such key version"
        )
        public = load_der_public_key(newest.value.public)
        if not isinstance(public, rsa.RSAPublicKey):
            raise integrity(f"key {destination} holds material of another type")
        versions = self._exports.versions(key, which)
        for version in versions:
            check_version_use(key, version, Act.EXPORT, self._core.clock.now())
        keys = {
            str(version.version): wrap_for(public, version.material.secret)
            for version in versions
            if isinstance(version.material, SoftwareMaterial)
        }
        return Result(
            data={"name": key.name, "type": key.type, "keys": keys},
            items=len(keys),
            subject=facts(key, key.latest_version) | {"destination": destination},
        )


def _sent(algorithm: Algorithm, parcel: Parcel) -> Sent:
    """The parcel for the HSM, with a public key only where the caller sent one of this type."""
    public = read_public(algorithm, parcel.public_key) if parcel.public_key else b""
    return Sent(parcel.ciphertext, public, parcel.hash_function)


def replace_wish(wish: Wish, size: int) -> Wish:
    """The wish as the imported material answers it: software, and an HMAC key of the size that it has."""
    fields: dict[str, Any] = {name: getattr(wish, name) for name in Wish.__dataclass_fields__}
    return Wish(**{**fields, "protection": Protection.SOFTWARE.value, "key_size": size})


def wrap_for(public: rsa.RSAPublicKey, target: bytes) -> str:
    """What `keys/:name/import` of the holder of the private half takes."""
    ephemeral = urandom(_EPHEMERAL_BYTES)
    wrapped = public.encrypt(ephemeral, _oaep(hashes.SHA256()))
    return b64encode(wrapped + keywrap.aes_key_wrap_with_padding(ephemeral, target)).decode()


def _oaep(algorithm: hashes.HashAlgorithm) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(algorithm), algorithm, None)


def _shown(key: ImportKey) -> Result:
    public = load_der_public_key(key.public)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return Result(data={"public_key": pem}, subject={"wrapping_key_bits": WRAPPING_BITS})


def _size(algorithm: Algorithm, material: Material) -> int:
    if algorithm.kind is Kind.MAC and isinstance(material, SoftwareMaterial):
        return len(material.secret)
    return 0


def _version(key: NamedKey, number: int, now: float, material: Material, public: bytes) -> KeyVersion:
    mac = None if key.algorithm.kind is Kind.MAC else SoftwareMaterial(urandom(HMAC_BYTES))
    return KeyVersion(
        key_id=key.id,
        version=number,
        state=VersionState.ACTIVE,
        created=now,
        material=material,
        mac=mac,
        public=public,
    )


def read_target(algorithm: Algorithm, target: bytes) -> tuple[Material, bytes]:
    """The stored form of unwrapped bytes, if they are a key of this type.

    Raises:
        KmsError(INVALID): they are not. Says nothing of the bytes but their number.
    """
    if algorithm.title:
        try:
            private = load_der_private_key(target, None)
        except (ValueError, TypeError, KmsError):
            raise invalid(f"the wrapped key is not PKCS#8 of type {algorithm.name}") from None
        if not isinstance(private, PrivateKey):
            raise invalid(f"the wrapped key is not of type {algorithm.name}")
        check_half(algorithm, private)
        return pair(private)
    sizes = (
        range(MIN_HMAC_BYTES, MAX_HMAC_BYTES + 1) if algorithm.kind is Kind.MAC else (algorithm.bits // 8,)
    )
    if len(target) not in sizes:
        raise invalid(f"invalid key size {len(target)} bytes for key type {algorithm.name}")
    return SoftwareMaterial(target), b""


def read_public(algorithm: Algorithm, pem: str) -> bytes:
    """SubjectPublicKeyInfo DER of a public key in PEM, if it is of this type.

    Raises:
        KmsError(INVALID): it is not.
    """
    try:
        public = load_pem_public_key(pem.encode())
    except (ValueError, TypeError):
        raise invalid("error parsing public key: not in PEM format") from None
    check_half(algorithm, public)
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_half(algorithm: Algorithm, half: object) -> None:
    """Refuse a private or public key of another type than the named one.

    Raises:
        KmsError(INVALID)
    """
    found = type_of(half)
    if found != algorithm.name:
        raise invalid(f"invalid key type: expected {algorithm.name}, got {found or 'another'}")


__all__ = ["Imports", "Parcel", "check_half", "read_public", "read_target", "wrap_for"]
