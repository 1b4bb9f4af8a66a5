"""Making a version whose key lives in the HSM as a token object: the external effect, step by step.

    begin     the planned row with our CKA_ID (and, for a rotation, the number allotted on the name)
    perform   C_GenerateKey(Pair) under that CKA_ID; nothing else knows the object yet
    conclude  the row becomes active and the name points at it: from now on it is used
    abandon   the row stays, abandoned: whatever may be left in the token is known by it

A crash anywhere leaves a planned row and an intent; `resolve` then asks the HSM whether the object is
there, and concludes or abandons. A number that was allotted to a failed birth is not used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from kms.errors import KmsError, integrity
from kms.keys.core import check_no_alias
from kms.keys.envelope import Envelope, residents
from kms.keys.lifecycle import moved
from kms.keys.model import KeyVersion, NamedKey, ResidentMaterial, VersionState
from kms.keys.store import KEY_VERSIONS, NAMED_KEYS, name_key, version_key
from kms.keys.view import PublicOf, key_object
from kms.operation import External, Result
from kms.tables import Reader, Row, Transaction


def answer(
    reader: Reader,
    key: NamedKey,
    *,
    version: int = 0,
    warnings: tuple[str, ...] = (),
    public_of: PublicOf | None = None,
    now: float = 0.0,
) -> Result:
    """The key object, as create, rotate, config and read answer it."""
    return Result(
        data=key_object(reader, key, public_of, now),
        subject=facts(key, version or key.latest_version),
        warnings=warnings,
    )


def facts(key: NamedKey, version: int) -> dict[str, str | int]:
    """What the audit record says about a key."""
    return {"key_id": key.id, "type": key.type, "protection": key.protection.value, "key_version": version}


def activate(tx: Transaction, key: NamedKey, version: KeyVersion, *, imported: bool = False) -> NamedKey:
    """Point the name at a new version, by compare-and-swap on its row. The number only grows.

    A key of which a version was born here counts as imported no more, as in the Vault API.

    Raises:
        KmsError(CONFLICT): the name stands for another key now, or is gone.
    """
    row = named(tx, key)
    latest = max(row.value.latest_version, version.version)
    changed = replace(
        row.value,
        latest_version=latest,
        allotted=max(row.value.allotted, latest),
        rotated=max(row.value.rotated, version.created),
        imported=imported,
    )
    return tx.replace(NAMED_KEYS, row, changed).value


def named(reader: Reader, key: NamedKey) -> Row[NamedKey]:
    """The name's row, if it still stands for this key.

    Raises:
        KmsError(CONFLICT): it does not.
    """
    row = reader.get(NAMED_KEYS, name_key(key.mount, key.name))
    if row is None or row.value.id != key.id:
        raise moved(key)
    return row


@dataclass
class Birth:
    """One version on its way. `first` says whether its key is born with it."""

    envelope: Envelope
    key: NamedKey
    version: KeyVersion
    first: bool
    taken: bool = False  # the name was given away before we began; nothing is made then

    def external(self) -> External[bytes]:
        """The steps, for the pipeline."""
        return External(
            intent=self._intent(),
            begin=self._begin,
            perform=self._perform,
            conclude=self.conclude,
            abandon=self.abandon,
        )

    def _intent(self) -> Mapping[str, str | int]:
        objects = ",".join(part.cka_id.hex() for part in residents(self.version))
        return {
            **facts(self.key, self.version.version),
            "mount": self.key.mount,
            "name": self.key.name,
            "hsm_objects": objects,
        }

    @property
    def _row_key(self) -> str:
        return version_key(self.version.key_id, self.version.version)

    def _begin(self, tx: Transaction) -> None:
        if self.first:
            check_no_alias(tx, self.key.mount, self.key.name)
            self.taken = tx.get(NAMED_KEYS, name_key(self.key.mount, self.key.name)) is not None
            if not self.taken:
                tx.insert(KEY_VERSIONS, self._row_key, replace(self.version, planned_key=self.key))
            return
        row = named(tx, self.key)
        if row.value.allotted + 1 != self.version.version:
            raise moved(self.key)
        tx.replace(NAMED_KEYS, row, replace(row.value, allotted=self.version.version))
        tx.insert(KEY_VERSIONS, self._row_key, self.version)

    def _perform(self) -> bytes:
        return b"" if self.taken else self.envelope.generate_residents(self.version)

    def conclude(self, tx: Transaction, public: bytes) -> Result:
        """Activate. A first version whose name was taken meanwhile is abandoned instead."""
        if self.first:
            existing = tx.get(NAMED_KEYS, name_key(self.key.mount, self.key.name))
            if existing is not None:
                if not self.taken:
                    self._settle(tx, VersionState.ABANDONED)
                return answer(tx, existing.value)
        self._settle(tx, VersionState.ACTIVE, public)
        if not self.first:
            material = self.version.material
            imported = isinstance(material, ResidentMaterial) and material.imported
            key = activate(tx, self.key, self.version, imported=imported)
            return answer(tx, key, version=self.version.version)
        tx.insert(NAMED_KEYS, name_key(self.key.mount, self.key.name), self.key)
        return answer(tx, self.key)

    def abandon(self, tx: Transaction, _error: KmsError) -> None:
        """Leave the version's row as the memory of what may be in the token."""
        if not self.taken:
            self._settle(tx, VersionState.ABANDONED)

    def _settle(self, tx: Transaction, state: VersionState, public: bytes = b"") -> None:
        _settle(tx, self.version, state, public)


def _settle(tx: Transaction, version: KeyVersion, state: VersionState, public: bytes = b"") -> None:
    row = tx.get(KEY_VERSIONS, version_key(version.key_id, version.version))
    if row is None or row.value.state is not VersionState.PLANNED:
        raise integrity(f"the planned version {version.version} of key {version.key_id} is gone")
    value = replace(row.value, state=state, public=public or row.value.public, planned_key=None)
    tx.replace(KEY_VERSIONS, row, value)


def resolve(
    reader: Reader, envelope: Envelope, intent: Mapping[str, str | int]
) -> External[bytes | None] | None:
    """Finish or undo a birth that a crash interrupted. Asks the HSM before anything is written.

    Returns:
        The rest of the steps, or None when there is no planned version that belongs to the intent.
    """
    row = reader.get(KEY_VERSIONS, version_key(str(intent["key_id"]), int(intent["key_version"])))
    if row is None or row.value.state is not VersionState.PLANNED:
        return None
    version = row.value
    name = reader.get(NAMED_KEYS, name_key(str(intent["mount"]), str(intent["name"])))
    key = version.planned_key
    if key is None and name is not None and name.value.id == version.key_id:
        key = name.value
    # A rotation of a key that was deleted meanwhile is undone, whatever the HSM made of it.
    public = None if key is None else envelope.find_residents(version)

    def conclude(tx: Transaction, found: bytes | None) -> Result:
        if key is None or found is None:
            _settle(tx, version, VersionState.ABANDONED)
            return Result(partial=True, subject=intent)
        birth = Birth(envelope, key, version, first=version.planned_key is not None)
        return birth.conclude(tx, found)

    return External(
        intent=intent,
        begin=lambda _tx: None,
        perform=lambda: public,
        conclude=conclude,
        abandon=lambda tx, _error: _settle(tx, version, VersionState.ABANDONED),
    )
