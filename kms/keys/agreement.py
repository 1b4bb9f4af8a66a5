"""Agreeing on keys: an ECDH of a named key with somebody's public key.

    derive   becomes a symmetric key here. The shared secret (SP 800-56A 5.7.1.2: the x coordinate) goes through
             HKDF-SHA256 with neither salt nor info, as in the Vault API, and never leaves: the result is a version
             of a named key, kept as an imported one of protection software
    shared   is answered as it is, for protocols whose key derivation is the caller's (ECIES, JWE, HPKE), as AWS KMS
             does by DeriveSharedSecret

The base key may be in the HSM, if it was made with purpose=derive: then the secret is made there and read from it,
as no token here has CKM_HKDF_DERIVE to go on inside.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from os import urandom

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from msgspec.structs import replace

from kms.errors import invalid
from kms.hsm import point_of
from kms.ids import check_name, new_id
from kms.keys.aead import hkdf
from kms.keys.birth import activate, facts
from kms.keys.catalogue import ALGORITHMS, HMAC_BYTES, Duty, Kind, Protection
from kms.keys.core import Core, active_version, insert
from kms.keys.life import Life
from kms.keys.lifecycle import Wish, check_use, check_version_use, plan, refuse_soft_deleted
from kms.keys.model import KeyVersion, NamedKey, ResidentMaterial, SoftwareMaterial, VersionState, to_ref
from kms.keys.software import load_private
from kms.keys.states import Act
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS, name_key, version_key
from kms.operation import Change, Result
from kms.tables import Transaction


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a caller asks for. `base_version` 0 is the newest."""

    base_name: str
    base_version: int
    peer_public_key: str
    algorithm: str
    type: str
    by: str = ""


class Agreements:
    """The verb. One per process."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def derive(self, mount_id: str, name: str, wanted: Agreement) -> Change:
        """A new key from an agreement, or the next version of one that came from such."""
        check_name(name, "key name")
        if not wanted.peer_public_key:
            raise invalid("peer public key not provided")
        if wanted.algorithm != "ecdh":
            raise invalid(f"key derivation algorithm {wanted.algorithm} not supported")
        algorithm = ALGORITHMS.get(wanted.type)
        if algorithm is None or algorithm.kind is not Kind.AEAD:
            raise invalid(f"unknown key type {wanted.type}")
        base, secret, _ = self._secret(
            mount_id, wanted.base_name, wanted.base_version, wanted.peer_public_key
        )
        material = SoftwareMaterial(hkdf(secret, b"", algorithm.bits // 8))
        now = self._core.clock.now()

        def write(tx: Transaction) -> Result:
            row = tx.get(NAMED_KEYS, name_key(mount_id, name))
            if row is not None:
                return self._next(tx, row.value, wanted.type, material, base)
            wish = Wish(
                type=wanted.type, protection=Protection.SOFTWARE.value, life=Life(created_by=wanted.by)
            )
            key = replace(
                plan(new_id(), mount_id, name, wish, now), imported=True, allow_rotation=False, rotated=now
            )
            self._core.admit(key)
            insert(tx, key, _version(key, 1, now, material))
            return _done(key, 1, base)

        return Change(write)

    def shared(self, mount_id: str, name: str, version: int, peer: str) -> Result:
        """The shared secret of a key and somebody's public key (PEM), in base64; it must go through a KDF.

        Raises:
            KmsError(INVALID): no such key or version, one that does not agree, or a public key of another curve.
        """
        if not peer:
            raise invalid("peer public key not provided: send peer_public_key in PEM")
        key, secret, number = self._secret(mount_id, name, version, peer)
        data = {"shared_secret": b64encode(secret).decode(), "key_version": number}
        return Result(data=data, subject=facts(key, number))

    def _next(
        self, tx: Transaction, key: NamedKey, type_: str, material: SoftwareMaterial, base: NamedKey
    ) -> Result:
        if key.type != type_ or not key.imported or key.protection is not Protection.SOFTWARE:
            raise invalid(f"key {key.name} exists and is not a {type_} key that was derived or imported")
        refuse_soft_deleted(key)
        check_use(key, Act.ROTATE, self._core.clock.now())
        number = key.allotted + 1
        version = _version(key, number, self._core.clock.now(), material)
        tx.insert(KEY_VERSIONS, version_key(key.id, number), version)
        activate(tx, key, version, imported=True)
        return _done(key, number, base)

    def _secret(
        self, mount_id: str, name: str, version_wanted: int, peer: str
    ) -> tuple[NamedKey, bytes, int]:
        row = self._core.row(mount_id, name)
        if row is None:
            raise invalid("specified base key not found")
        key = row.value
        if key.algorithm.kind is not Kind.EC:
            raise invalid(f"base key type {key.type} does not support key agreement")
        refuse_soft_deleted(key)
        check_use(key, Act.AGREE, self._core.clock.now())
        if key.protection is Protection.HSM and key.purpose is not Duty.DERIVE:
            raise invalid(
                f"base key {key.name} has protection hsm and signs; one that derives is made with purpose=derive"
            )
        number = _number(key, version_wanted)
        version = active_version(self._core.store.reader(), key, number, "no such key version").value
        check_version_use(key, version, Act.AGREE, self._core.clock.now())
        public = _public(peer)
        if isinstance(version.material, ResidentMaterial):
            own = load_der_public_key(version.public)
            if not isinstance(own, ec.EllipticCurvePublicKey) or own.curve.name != public.curve.name:
                raise invalid(f"base private key type {key.type} does not match peer public key curve")
            return key, self._core.hsm().agree(to_ref(version.material), point_of(public)), number
        if not isinstance(version.material, SoftwareMaterial):
            raise invalid("requested version of the base key does not contain a private part")
        private = load_private(version.material.secret)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != public.curve.name:
            raise invalid(f"base private key type {key.type} does not match peer public key curve")
        return key, private.exchange(ec.ECDH(), public), number


def _number(key: NamedKey, wanted: int) -> int:
    """The version that is asked for, 0 being the newest, if it may still be used."""
    number = wanted or key.latest_version
    if number < 0:
        raise invalid("requested version of the base key cannot be negative")
    if number > key.latest_version:
        raise invalid("requested version of the base key is higher than the latest key version")
    if number < key.min_decryption_version:
        raise invalid("requested version of the base key is not allowed (too old)")
    return number


def _public(pem: str) -> ec.EllipticCurvePublicKey:
    try:
        public = load_pem_public_key(pem.encode())
    except (ValueError, TypeError):
        raise invalid("failed to parse supplied peer public key PEM: it holds no valid public key") from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise invalid("the peer public key is not on an elliptic curve that the base key could have")
    return public


def _version(key: NamedKey, number: int, now: float, material: SoftwareMaterial) -> KeyVersion:
    return KeyVersion(
        key_id=key.id,
        version=number,
        state=VersionState.ACTIVE,
        created=now,
        material=material,
        mac=SoftwareMaterial(urandom(HMAC_BYTES)),
    )


def _done(key: NamedKey, number: int, base: NamedKey) -> Result:
    return Result(subject=facts(key, number) | {"base_key_id": base.id})
