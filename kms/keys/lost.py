"""What was bound to an HSM that is lost: blobs under its roots, and key pairs that lived in it.

Rows of such versions stay, as a record and because their public halves go on verifying. Only a use of the
private half is refused, before the new HSM is asked for an object that it never had.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Iterator
from typing import Final

import msgspec

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeyRef, Ours, Resident, Scheme
from kms.keys.model import (
    KeyVersion,
    Material,
    ResidentMaterial,
    VersionState,
    WrappedMaterial,
)
from kms.keys.roots import LOST, ROOTS
from kms.keys.store import IMPORT_KEYS, JOINT_ROOTS, KEY_VERSIONS, NAMED_KEYS, RETIRED_KEYS
from kms.tables import Reader, Store, Table, Transaction

_HELD: Final = frozenset({VersionState.ACTIVE, VersionState.RETIRED})
_PORTION: Final = 500


class LostKeyError(KmsError):
    """The refusal, told from data that is wrong: a caller must learn that no other ciphertext would do."""

    def __init__(self) -> None:
        super().__init__(
            ErrorKind.INVALID,
            "this key version was bound to an HSM that is lost, and no backup opens it;"
            " rotate the key, so that new versions are born in the HSM of today",
        )


class LostObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object of a lost HSM. Key: hex CKA_ID. `epoch`: of the log that ended with that HSM."""

    epoch: int


LOST_OBJECTS: Final = Table("lost-object", "lost_objects", LostObject, sealed=False, cached=True)


class LostVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A key version that nothing opens any more, by name."""

    mount_id: str
    name: str
    version: int
    type: str


def lost_ids(reader: Reader) -> frozenset[str]:
    """Hex CKA_IDs of every object that was lost: roots, and key pairs that lived in the HSM."""
    roots = [row.key for row in reader.scan(ROOTS) if row.value.state == LOST]
    return frozenset([*roots, *reader.keys(LOST_OBJECTS)])


def bound_versions(reader: Reader, lost: Container[str] | None = None) -> Iterator[LostVersion]:
    """Versions whose key, or HMAC key, is bound to one of `lost`; None: to any HSM. Reads every version."""
    names = {row.value.id: row.value for row in reader.scan(NAMED_KEYS)}
    names |= {row.value.key.id: row.value.key for row in reader.scan(RETIRED_KEYS)}
    for version in _versions(reader):
        key = names.get(version.key_id)
        if key is None or not any(lost is None or cka_id in lost for cka_id in _bonds(version)):
            continue
        yield LostVersion(mount_id=key.mount, name=key.name, version=version.version, type=key.type)


def lose_keys(tx: Transaction, epoch: int, kept: Container[str] = ()) -> None:
    """Note every key pair that lived in a lost HSM, in the caller's transaction.

    Args:
        tx: the caller's.
        epoch: of the log.
        kept: hex CKA_IDs of all objects of the HSMs that are left.
    """
    for version in _versions(tx):
        for material in (version.material, version.mac):
            if isinstance(material, ResidentMaterial):
                cka_id = material.cka_id.hex()
                if cka_id not in kept and tx.get(LOST_OBJECTS, cka_id) is None:
                    tx.insert(LOST_OBJECTS, cka_id, LostObject(epoch=epoch))
    _lose_joint(tx, epoch, kept)
    for row in tx.scan(IMPORT_KEYS):  # callers fetch a new one before each import
        bond = _bond(row.value.material)
        if bond is not None and bond not in kept:
            tx.delete(IMPORT_KEYS, row)


def _lose_joint(tx: Transaction, epoch: int, kept: Container[str]) -> None:
    """Shared roots that no token holds any more; those that are left are to be replaced, as a token that is gone has them."""
    for row in tx.scan(JOINT_ROOTS):
        if row.value.state == LOST:
            continue
        if row.key in kept:
            tx.replace(JOINT_ROOTS, row, msgspec.structs.replace(row.value, version=0))
            continue
        tx.replace(JOINT_ROOTS, row, msgspec.structs.replace(row.value, state=LOST))
        tx.insert(LOST_OBJECTS, row.key, LostObject(epoch=epoch))


def _versions(reader: Reader) -> Iterator[KeyVersion]:
    after = ""
    while rows := reader.scan(KEY_VERSIONS, after=after, limit=_PORTION):
        after = rows[-1].key
        yield from (row.value for row in rows if row.value.state in _HELD)


def _bonds(version: KeyVersion) -> Iterator[str]:
    for material in (version.material, version.mac):
        if (bond := _bond(material)) is not None:
            yield bond


def _bond(material: Material | None) -> str | None:
    if isinstance(material, WrappedMaterial):
        return material.wrapping.hex()
    return material.cka_id.hex() if isinstance(material, ResidentMaterial) else None


class Losses:
    """Knows what was lost; in memory until more is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: frozenset[bytes] | None = None
        self._changes = 0
        self._lock = threading.Lock()
        store.watch(LOST_OBJECTS, self)
        store.watch(ROOTS, self)

    def drop(self, _key: str) -> None:
        """A root or another object changed (kms.tables.CacheListener)."""
        self.clear()

    def clear(self) -> None:
        """Look again (kms.tables.CacheListener)."""
        with self._lock:
            self._known = None
            self._changes += 1

    def refuse(self, ref: KeyRef) -> None:
        """Raise KmsError(INVALID) when this key is bound to a lost HSM."""
        known = self._known
        if known is None:
            changes = self._changes
            known = frozenset(bytes.fromhex(one) for one in lost_ids(self._store.reader()))
            with self._lock:
                if changes == self._changes:
                    self._known = known
        if known and (ref.cka_id if isinstance(ref, Resident) else ref.wrapping) in known:
            raise LostKeyError


class KnowingHsm(Hsm):
    """An HSM that is not asked for keys which went with another. Use `open_knowing`."""

    losses: Losses

    def encrypt(self, ref: KeyRef, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        self.losses.refuse(ref)
        return super().encrypt(ref, nonce, plaintext, aad)

    def decrypt(self, ref: KeyRef, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        self.losses.refuse(ref)
        return super().decrypt(ref, nonce, data, aad)

    def mac(self, ref: KeyRef, hash_name: str, data: bytes) -> bytes:
        self.losses.refuse(ref)
        return super().mac(ref, hash_name, data)

    def cmac(self, ref: KeyRef, data: bytes) -> bytes:
        self.losses.refuse(ref)
        return super().cmac(ref, data)

    def decrypt_oaep(self, ref: KeyRef, hash_name: str, block: bytes) -> bytes:
        self.losses.refuse(ref)
        return super().decrypt_oaep(ref, hash_name, block)

    def agree(self, ref: KeyRef, point: bytes) -> bytes:
        self.losses.refuse(ref)
        return super().agree(ref, point)

    def sign(self, ref: KeyRef, scheme: Scheme, payload: bytes, *, salt_length: int | None = None) -> bytes:
        self.losses.refuse(ref)
        return super().sign(ref, scheme, payload, salt_length=salt_length)


def open_knowing(config: HsmConfig, clock: Clock, losses: Losses, ours: Ours | None = None) -> Hsm:
    """Open the HSM. Raises KmsError(HSM_UNAVAILABLE)."""
    hsm = KnowingHsm.open(config, clock, ours)
    if isinstance(hsm, KnowingHsm):
        hsm.losses = losses
    return hsm
