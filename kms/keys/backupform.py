"""The members of a backup's JSON, named as OpenBao and Vault name them, and the form of one version.

Symmetric keys are base64 of bytes; EC keys are three integers, RSA keys the integers of PKCS#1,
Ed25519 keys seed || public key in base64. Times are RFC 3339.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import datetime
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from kms.clock import rfc3339
from kms.errors import invalid
from kms.keys.catalogue import HMAC_BYTES, MAX_HMAC_BYTES, MIN_HMAC_BYTES, Kind
from kms.keys.life import Life
from kms.keys.model import KeyVersion, Material, NamedKey, NoMaterial, SoftwareMaterial, VersionState
from kms.keys.software import CURVES, POST_QUANTUM, PrivateKey, load_private, pair, seed_and_public
from kms.keys.view import public_text

MAX_VERSIONS: Final = 100_000
# The numbers that the format has for key types; others are named in the member "keystead".
TYPE_NUMBERS: Final = {
    "aes256-gcm96": 0,
    "ecdsa-p256": 1,
    "ed25519": 2,
    "rsa-2048": 3,
    "rsa-4096": 4,
    "chacha20-poly1305": 5,
    "ecdsa-p384": 6,
    "ecdsa-p521": 7,
    "aes128-gcm96": 8,
    "rsa-3072": 9,
    "hmac": 10,
    "xchacha20-poly1305": 11,
    "mldsa-44": 12,
    "mldsa-65": 13,
    "mldsa-87": 14,
}
_CONVERGENT_VERSION: Final = 3
_EPOCH: Final = "0001-01-01T00:00:00Z"
_MISFIT: Final = "the backup holds a key that is not of its own type"


class Entry(msgspec.Struct, kw_only=True):
    """One version."""

    key: str | None = None
    hmac_key: str | None = None
    time: str = _EPOCH
    ec_x: Any = None
    ec_y: Any = None
    ec_d: Any = None
    rsa_key: dict[str, Any] | None = None
    rsa_public_key: dict[str, Any] | None = None
    public_key: str = ""
    convergent_version: int = 0
    creation_time: int = 0
    certificate_chain: list[str] | None = None
    external_key_ref: str = ""


class Stamp(msgspec.Struct):
    """When, and at which version."""

    time: str
    version: int


class Policy(msgspec.Struct, kw_only=True):
    """The key. `auto_rotate_period` is in nanoseconds."""

    name: str
    keys: dict[str, Entry]
    latest_version: int
    type: int
    key_size: int = 0
    derived: bool = False
    kdf: int = 0
    convergent_encryption: bool = False
    exportable: bool = False
    min_decryption_version: int = 1
    min_encryption_version: int = 0
    archive_version: int = 0
    archive_min_version: int = 0
    min_available_version: int = 0
    deletion_allowed: bool = False
    convergent_version: int = 0
    backup_info: Stamp | None = None
    restore_info: Stamp | None = None
    allow_plaintext_backup: bool = False
    auto_rotate_period: int = 0
    imported: bool = msgspec.field(default=False, name="Imported")
    allow_rotation: bool = msgspec.field(default=False, name="AllowImportedKeyRotation")
    soft_deleted: bool = False


class Archive(msgspec.Struct):
    """All versions from `archive_min_version` on; place 0 stands for a version that never is."""

    keys: list[Entry]


class Keystead(msgspec.Struct):
    """What the format has no word for. A key keeps its state, or a restore would undo a suspension."""

    type: str
    life: Life = Life()


class Document(msgspec.Struct):
    """The whole."""

    policy: Policy
    archived_keys: Archive
    keystead: Keystead | None = None


def seconds_of(text: str) -> float:
    """Unix seconds of an RFC 3339 time; 0 for one that cannot be read, as it decides nothing."""
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    except ValueError:
        return 0.0


def entry_of(key: NamedKey, version: KeyVersion | None) -> Entry:
    """The form of one version; of none, an empty one."""
    if version is None:
        return Entry()
    entry = Entry(
        time=rfc3339(version.created),
        creation_time=int(version.created),
        convergent_version=_CONVERGENT_VERSION if key.convergent_encryption else 0,
    )
    mac = version.material if key.algorithm.kind is Kind.MAC else version.mac
    if isinstance(mac, SoftwareMaterial):
        entry.hmac_key = b64encode(mac.secret).decode()
    if version.certificate_chain:
        entry.certificate_chain = [version.certificate_chain]
    if not key.algorithm.title:
        if isinstance(version.material, SoftwareMaterial):
            entry.key = b64encode(version.material.secret).decode()
        return entry
    entry.public_key = public_text(version)
    if isinstance(version.material, SoftwareMaterial):
        _write_private(entry, load_private(version.material.secret))
    else:
        _write_public(entry, load_der_public_key(version.public))
    return entry


def _write_private(entry: Entry, private: PrivateKey) -> None:
    if isinstance(private, Ed25519PrivateKey):
        entry.key = b64encode(seed_and_public(private)).decode()
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        numbers = private.private_numbers()
        entry.ec_d = numbers.private_value
        entry.ec_x, entry.ec_y = numbers.public_numbers.x, numbers.public_numbers.y
    elif not isinstance(private, rsa.RSAPrivateKey):
        entry.key = b64encode(private.private_bytes_raw()).decode()
    else:
        entry.public_key = ""
        rsa_numbers = private.private_numbers()
        public = rsa_numbers.public_numbers
        entry.rsa_key = {
            "N": public.n,
            "E": public.e,
            "D": rsa_numbers.d,
            "Primes": [rsa_numbers.p, rsa_numbers.q],
            "Precomputed": {
                "Dp": rsa_numbers.dmp1,
                "Dq": rsa_numbers.dmq1,
                "Qinv": rsa_numbers.iqmp,
                "CRTValues": [],
            },
        }


def _write_public(entry: Entry, public: object) -> None:
    if isinstance(public, ec.EllipticCurvePublicKey):
        entry.ec_x, entry.ec_y = public.public_numbers().x, public.public_numbers().y
    elif isinstance(public, rsa.RSAPublicKey):
        entry.public_key = ""
        entry.rsa_public_key = {"N": public.public_numbers().n, "E": public.public_numbers().e}


def version_of(key: NamedKey, number: int, entry: Entry) -> KeyVersion:
    """One version of a restored key; its halves are checked against each other.

    Raises:
        KmsError(INVALID): the entry holds no such key.
    """
    try:
        material, public = _material(key, entry)
        mac = None if key.algorithm.kind is Kind.MAC else SoftwareMaterial(_bytes(entry.hmac_key, HMAC_BYTES))
    except (ValueError, TypeError, KeyError, OverflowError):
        raise invalid(_MISFIT) from None
    return KeyVersion(
        key_id=key.id,
        version=number,
        state=VersionState.ACTIVE,
        created=float(entry.creation_time) if 0 <= entry.creation_time < 1 << 40 else 0.0,
        material=material,
        mac=mac,
        public=public,
        certificate_chain="".join(entry.certificate_chain or ()),
    )


def _bytes(text: str | None, size: int) -> bytes:
    data = b64decode(text or "", validate=True)
    if len(data) != size:
        raise ValueError(size)
    return data


def _material(key: NamedKey, entry: Entry) -> tuple[Material, bytes]:
    algorithm = key.algorithm
    if algorithm.kind is Kind.MAC:
        data = b64decode(entry.key or "", validate=True)
        if not MIN_HMAC_BYTES <= len(data) <= MAX_HMAC_BYTES:
            raise ValueError(len(data))
        return SoftwareMaterial(data), b""
    if algorithm.kind is Kind.EDWARDS:
        return _edwards(entry)
    if algorithm.name in POST_QUANTUM:
        return _post_quantum(algorithm.name, entry)
    if algorithm.kind is Kind.EC:
        return _ec(key.type, entry)
    if algorithm.kind is Kind.RSA:
        return _rsa(algorithm.bits, entry)
    return SoftwareMaterial(_bytes(entry.key, algorithm.bits // 8)), b""


def _post_quantum(type_: str, entry: Entry) -> tuple[Material, bytes]:
    private, public = POST_QUANTUM[type_]
    if entry.key:
        return pair(private.from_seed_bytes(b64decode(entry.key, validate=True)))
    half = public.from_public_bytes(b64decode(entry.public_key, validate=True))
    return NoMaterial(), half.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _edwards(entry: Entry) -> tuple[Material, bytes]:
    if not entry.key:
        return NoMaterial(), _spki(Ed25519PublicKey.from_public_bytes(_bytes(entry.public_key, 32)))
    data = _bytes(entry.key, 64)
    private = Ed25519PrivateKey.from_private_bytes(data[:32])
    if private.public_key().public_bytes_raw() != data[32:]:
        raise ValueError
    return pair(private)


def _spki(public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | Ed25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _ec(type_: str, entry: Entry) -> tuple[Material, bytes]:
    public = ec.EllipticCurvePublicNumbers(entry.ec_x, entry.ec_y, CURVES[type_])
    if entry.ec_d is None:
        return NoMaterial(), _spki(public.public_key())
    return pair(ec.EllipticCurvePrivateNumbers(entry.ec_d, public).private_key())


def _rsa(bits: int, entry: Entry) -> tuple[Material, bytes]:
    private, public = entry.rsa_key, entry.rsa_public_key
    if private is None:
        if public is None:
            raise ValueError
        half = rsa.RSAPublicNumbers(public["E"], public["N"]).public_key()
        if half.key_size != bits:
            raise ValueError(bits)
        return NoMaterial(), _spki(half)
    p, q = private["Primes"]
    d, numbers = private["D"], rsa.RSAPublicNumbers(private["E"], private["N"])
    made = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), numbers
    ).private_key()
    if made.key_size != bits:
        raise ValueError(bits)
    return pair(made)


__all__ = [
    "MAX_VERSIONS",
    "TYPE_NUMBERS",
    "Archive",
    "Document",
    "Entry",
    "Keystead",
    "Policy",
    "Stamp",
    "entry_of",
    "seconds_of",
    "version_of",
]
