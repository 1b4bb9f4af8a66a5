"""The end of keys: trimming, soft deletion, deletion, and the destruction of what waited long enough.

    delete, trim     the name or the versions are unusable at once; the material waits 7 to 30 days
    restore          while it waits, everything can be put back as it was
    cancel           calls the destruction off; the material is kept until it is restored or scheduled
    destruction      done by the jobs process, like a request: intent, then the HSM's objects, then the
                     rows, whose blobs are overwritten and whose public facts stay as a record

Nothing shortens a waiting time. Once destruction has begun, nothing can be restored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from kms.clock import rfc3339
from kms.errors import KmsError, integrity, invalid, not_found
from kms.keys import aliases
from kms.keys.birth import answer, facts
from kms.keys.core import Core, check_no_alias, must
from kms.keys.hsmimport import put_away
from kms.keys.life import NEVER
from kms.keys.lifecycle import MAX_WAIT_DAYS, check_deletion, destruction_time, trim
from kms.keys.living import bury
from kms.keys.model import KeyVersion, NamedKey, NoMaterial, RetiredKey, VersionState
from kms.keys.store import IMPORT_KEYS, KEY_VERSIONS, NAMED_KEYS, RETIRED_KEYS, name_key, version_key
from kms.operation import Change, External, Result
from kms.tables import Reader, Row, Transaction

_MATERIAL: Final = frozenset({VersionState.ACTIVE, VersionState.RETIRED})


@dataclass(frozen=True, slots=True)
class Chore:
    """Background work that has come due: run `external` like a request, with intent and outcome.

    `operation` is the registered name to record it under, and what resolves it after a crash.
    """

    operation: str
    mount_id: str
    external: External[Any]


def as_chore(key: NamedKey, work: Change | External[Any]) -> External[Any]:
    """Work on a key as the steps that a chore has; what changes only rows does it in the last one."""
    if isinstance(work, External):
        return work
    return External(
        intent={**facts(key, key.latest_version), "mount": key.mount, "name": key.name},
        begin=lambda _tx: None,
        perform=lambda: None,
        conclude=lambda tx, _done: work.write(tx),
        abandon=lambda _tx, _error: None,
    )


class Retirement:
    """The verbs. One per process."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # -- making unusable --------------------------------------------------------------------------

    def delete(self, mount_id: str, name: str, days: int = MAX_WAIT_DAYS) -> Change:
        """Free the name at once; the material is destroyed after the waiting time, not now."""
        due = destruction_time(self._core.clock.now(), days)

        def write(tx: Transaction) -> Result:
            missing = f"error deleting policy {name}: could not delete key; not found"
            row = must(tx, mount_id, name, missing)
            check_deletion(row.value)
            self._retire(tx, row, due)
            return Result(subject=facts(row.value, row.value.latest_version) | {"destroy_after": int(due)})

        return Change(write)

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Free all names of a mount that is being removed; returns how many.

        `deletion_allowed` guards one key against a slip; removing the mount is a request for all.
        """
        due = destruction_time(self._core.clock.now(), MAX_WAIT_DAYS)
        rows = tx.scan(NAMED_KEYS, f"{mount_id}/")
        for row in rows:
            self._retire(tx, row, due)
        aliases.remove_all(tx, mount_id)
        wrapping = tx.get(IMPORT_KEYS, mount_id)
        if wrapping is not None:
            tx.delete(IMPORT_KEYS, wrapping)
        put_away(tx, mount_id, self._core.clock.now())
        return len(rows)

    def replace(self, tx: Transaction, row: Row[NamedKey]) -> None:
        """Free a name that is about to be given to a restored key."""
        self._retire(tx, row, destruction_time(self._core.clock.now(), MAX_WAIT_DAYS))

    def trim(self, mount_id: str, name: str, wanted: int | None, days: int = MAX_WAIT_DAYS) -> Change:
        """Make all versions below `wanted` unavailable; the key object as it then is."""
        due = destruction_time(self._core.clock.now(), days)

        def write(tx: Transaction) -> Result:
            row = must(tx, mount_id, name, "invalid key name")
            if wanted is None:
                raise invalid("missing min_available_version")
            key = row.value
            changed = trim(key, wanted)
            first, last = max(key.min_available_version, 1), wanted - 1
            if last >= first:
                self._set(tx, key, (first, last), VersionState.ACTIVE, VersionState.RETIRED)
                self._file(tx, key, due, first, last)
            if changed != key:
                tx.replace(NAMED_KEYS, row, changed)
            return answer(tx, changed, now=self._core.clock.now())

        return Change(write)

    def soft_delete(self, mount_id: str, name: str, *, deleted: bool) -> Change:
        """Refuse the key for every use, or allow it again. No such name is no error, as in the API."""
        note = "key was already marked as soft deleted" if deleted else "key was already restored"

        def write(tx: Transaction) -> Result:
            row = tx.get(NAMED_KEYS, name_key(mount_id, name))
            if row is None:
                return Result()
            if row.value.soft_deleted == deleted:
                return answer(tx, row.value, warnings=(note,), now=self._core.clock.now())
            changed = replace(row.value, soft_deleted=deleted)
            tx.replace(NAMED_KEYS, row, changed)
            return answer(tx, changed, now=self._core.clock.now())

        return Change(write)

    def _retire(self, tx: Transaction, row: Row[NamedKey], due: float) -> None:
        self._file(tx, row.value, due, 0, 0)
        tx.delete(NAMED_KEYS, row)

    def _file(self, tx: Transaction, key: NamedKey, due: float, first: int, last: int) -> None:
        now = self._core.clock.now()
        retired = RetiredKey(key=key, deleted=now, destroy_after=due, first=first, last=last)
        tx.insert(RETIRED_KEYS, f"{key.mount}/{pending_id(retired)}", retired)

    @staticmethod
    def _set(
        tx: Transaction, key: NamedKey, span: tuple[int, int], before: VersionState, after: VersionState
    ) -> None:
        for number in range(span[0], span[1] + 1):
            row = tx.get(KEY_VERSIONS, version_key(key.id, number))
            if row is not None and row.value.state is before:
                tx.replace(KEY_VERSIONS, row, replace(row.value, state=after))

    # -- what waits -------------------------------------------------------------------------------

    def pending(
        self, mount_id: str, *, after: str = "", limit: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """What waits for its destruction in a mount, by pending id in order; destroyed material is not listed."""
        prefix = f"{mount_id}/"
        rows = self._core.store.reader().scan(RETIRED_KEYS, prefix, after=f"{prefix}{after}" if after else "")
        waiting = [row.value for row in rows if not row.value.destroyed]
        return {pending_id(item): _shown(item) for item in waiting[:limit]}

    def show(self, mount_id: str, which: str) -> dict[str, Any]:
        """One item, a destroyed one too.

        Raises:
            KmsError(NOT_FOUND)
        """
        return _shown(_pending(self._core.store.reader(), mount_id, which).value)

    def restore(self, mount_id: str, which: str, name: str) -> Change:
        """Put a deleted key back under its name or another, or trimmed versions back into their key."""

        def write(tx: Transaction) -> Result:
            row = _pending(tx, mount_id, which)
            _refuse_begun(row.value)
            key = (
                self._restore_trimmed(tx, row.value) if row.value.last else _restore_key(tx, row.value, name)
            )
            tx.delete(RETIRED_KEYS, row)
            return answer(tx, key, now=self._core.clock.now())

        return Change(write)

    def _restore_trimmed(self, tx: Transaction, item: RetiredKey) -> NamedKey:
        row = must(tx, item.key.mount, item.key.name, f"the key {item.key.name} is gone; restore it first")
        key = row.value
        if key.id != item.key.id:
            raise invalid(f"the name {key.name} stands for another key now; these versions are not its own")
        if key.min_available_version != item.last + 1:
            raise invalid("versions are restored newest first; others were trimmed after these")
        self._set(tx, key, (item.first, item.last), VersionState.RETIRED, VersionState.ACTIVE)
        lowered = replace(key, min_available_version=item.key.min_available_version)
        return tx.replace(NAMED_KEYS, row, lowered).value

    def cancel(self, mount_id: str, which: str) -> Change:
        """Call the destruction off. The material stays unusable until it is restored."""
        return self._reschedule(mount_id, which, lambda _item: NEVER)

    def schedule(self, mount_id: str, which: str, days: int) -> Change:
        """Let the waiting time begin anew. It never ends earlier than it would have."""
        due = destruction_time(self._core.clock.now(), days)
        return self._reschedule(
            mount_id, which, lambda item: due if item.destroy_after == NEVER else max(due, item.destroy_after)
        )

    def _reschedule(self, mount_id: str, which: str, due: Any) -> Change:
        def write(tx: Transaction) -> Result:
            row = _pending(tx, mount_id, which)
            _refuse_begun(row.value)
            changed = replace(row.value, destroy_after=due(row.value))
            if changed != row.value:
                tx.replace(RETIRED_KEYS, row, changed)
            subject = facts(changed.key, changed.key.latest_version)
            return Result(
                data=_shown(changed), subject=subject | {"destroy_after": int(changed.destroy_after)}
            )

        return Change(write)

    # -- destruction ------------------------------------------------------------------------------

    def destructions(self, now: float, limit: int) -> list[Chore]:
        """What has waited long enough, oldest first come, as chores for the jobs process."""
        rows = self._core.store.reader().find(RETIRED_KEYS, {}, below=("destroy_after", now), limit=limit)
        return [
            Chore("transit.pending.destroy", row.value.key.mount, self._destruction(row.value))
            for row in rows
        ]

    def resolve(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """Finish a destruction that a crash interrupted (`Operation.resolve`): it only ever goes on."""
        reader = self._core.store.reader()
        row = reader.get(RETIRED_KEYS, f"{intent['mount']}/{intent['pending_id']}")
        if row is None or row.value.destroyed or not row.value.destroying:
            return None
        return self._destruction(row.value)

    def _destruction(self, item: RetiredKey) -> External[None]:
        key, which = item.key, pending_id(item)
        versions = self._doomed(self._core.store.reader(), item)
        subject: dict[str, str | int] = {
            **facts(key, item.last or key.latest_version),
            "mount": key.mount,
            "name": key.name,
            "pending_id": which,
            "versions": len(versions),
        }

        def begin(tx: Transaction) -> None:
            row = _pending(tx, key.mount, which)
            if row.value.destroy_after > self._core.clock.now() and not row.value.destroying:
                raise invalid("the destruction was called off meanwhile")
            tx.replace(RETIRED_KEYS, row, replace(row.value, destroying=True))

        def perform() -> None:
            for version in versions:
                self._core.envelope.destroy_residents(version.value)

        def conclude(tx: Transaction, _done: None) -> Result:
            for row in self._doomed(tx, item):
                tx.replace(KEY_VERSIONS, row, _emptied(row.value))
            waited = _pending(tx, key.mount, which)
            now = self._core.clock.now()
            # Trimmed versions are a part of a key that goes on; only a whole key ends.
            left = waited.value.key if item.last else bury(tx, waited.value.key, now)
            if not item.last:
                aliases.remove(tx, left)
            done = replace(waited.value, key=left, destroy_after=NEVER, destroyed=now)
            tx.replace(RETIRED_KEYS, waited, done)
            return Result(subject=subject)

        def abandon(_tx: Transaction, _error: KmsError) -> None:
            """Nothing is undone: the item is still due, and the next round goes on with it."""

        return External(intent=subject, begin=begin, perform=perform, conclude=conclude, abandon=abandon)

    @staticmethod
    def _doomed(reader: Reader, item: RetiredKey) -> Sequence[Row[KeyVersion]]:
        rows = reader.scan(KEY_VERSIONS, f"{item.key.id}/")
        if item.last:
            rows = [row for row in rows if item.first <= row.value.version <= item.last]
            wanted = frozenset({VersionState.RETIRED})
        else:
            wanted = _MATERIAL
        return [row for row in rows if row.value.state in wanted]


def pending_id(item: RetiredKey) -> str:
    """How a pending item is named in paths: the key's id, and the newest trimmed version if it is about those."""
    return f"{item.key.id}.v{item.last}" if item.last else item.key.id


def _pending(reader: Reader, mount_id: str, which: str) -> Row[RetiredKey]:
    row = reader.get(RETIRED_KEYS, f"{mount_id}/{which}")
    if row is None:
        raise not_found()
    return row


def _refuse_begun(item: RetiredKey) -> None:
    if item.destroyed:
        raise invalid(f"this material was destroyed on {rfc3339(item.destroyed)}")
    if item.destroying:
        raise invalid("the destruction of this material has begun; it can no longer be stopped")


def _restore_key(tx: Transaction, item: RetiredKey, name: str) -> NamedKey:
    key = replace(item.key, name=name or item.key.name)
    if tx.get(NAMED_KEYS, name_key(key.mount, key.name)) is not None:
        raise invalid(f"the name {key.name} is in use; give another name to restore to")
    check_no_alias(tx, key.mount, key.name)
    aliases.follow(tx, key)
    return tx.insert(NAMED_KEYS, name_key(key.mount, key.name), key).value


def _emptied(version: KeyVersion) -> KeyVersion:
    if version.state is VersionState.DESTROYED:
        raise integrity("a destroyed version is destroyed again")
    return replace(
        version,
        state=VersionState.DESTROYED,
        material=NoMaterial(),
        mac=None,
        wrapping="",
        mac_wrapping="",
    )


def _shown(item: RetiredKey) -> dict[str, Any]:
    state = "destroyed" if item.destroyed else "destroying" if item.destroying else "waiting"
    if state == "waiting" and item.destroy_after == NEVER:
        state = "kept"
    return {
        "name": item.key.name,
        "key_id": item.key.id,
        "type": item.key.type,
        "protection": item.key.protection.value,
        "first_version": item.first or 1,
        "last_version": item.last or item.key.latest_version,
        "state": state,
        "key_state": item.key.life.state.value,
        "deleted_time": rfc3339(item.deleted),
        "destroy_time": rfc3339(item.destroy_after) if item.destroy_after != NEVER else "",
        "destroyed_time": rfc3339(item.destroyed) if item.destroyed else "",
    }
