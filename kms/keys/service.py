"""KeyService: everything that can be done with named keys, but for the cryptography itself.

Verbs that change something return what the pipeline runs (`Change`, `External`), never act by
themselves. HSM work for wrapped keys happens before the transaction: nothing of it persists in the
token, so a lost transaction loses only a blob.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import invalid, not_found
from kms.hsm import Hsm
from kms.ids import check_name, new_id
from kms.keys.birth import Birth, activate, answer, facts, named, resolve
from kms.keys.envelope import Envelope
from kms.keys.lifecycle import Wish, check_deletion, configure, moved, plan
from kms.keys.live import LiveKey, LiveKeys
from kms.keys.model import (
    KeyVersion,
    MountSettings,
    NamedKey,
    RetiredKey,
    RootProvider,
    SoftwareMaterial,
    VersionState,
)
from kms.keys.ready import ReadyVersion
from kms.keys.store import KEY_VERSIONS, MOUNT_SETTINGS, NAMED_KEYS, RETIRED_KEYS, name_key, version_key
from kms.keys.view import public_of_context
from kms.operation import Change, External, Outcome, Result
from kms.tables import Cache, Row, Store, Transaction

# How long the material of a deleted key waits for its destruction. No API shortens it.
DESTRUCTION_WAIT_SECONDS: Final = 30 * 86_400.0
# How long after a failed birth an object of it might still appear in the token.
SETTLING_SECONDS: Final = 3_600.0


class KeyService:
    """Named keys of all mounts. One per process, thread safe.

    Args:
        store: the database; must be unlocked before a verb is used.
        hsm: gives this process's HSM, or raises KmsError(HSM_UNAVAILABLE, SEALED).
        roots: what new blobs are wrapped under.
        instance_id: the server's id, bound into every blob.
    """

    def __init__(
        self, store: Store, hsm: Callable[[], Hsm], roots: RootProvider, instance_id: str, clock: Clock
    ) -> None:
        self._store = store
        self._hsm = hsm
        self._clock = clock
        self._envelope = Envelope(hsm, roots, instance_id)
        self._live = LiveKeys(store, hsm, self._envelope, clock)
        self._settings = Cache(store, MOUNT_SETTINGS)

    # -- use --------------------------------------------------------------------------------------

    def get(self, mount_id: str, name: str) -> LiveKey | None:
        """The key for use, as of the last refresh; None when there is no such name."""
        return self._live.get(f"{mount_id}/{name}")

    def peek(self, mount_id: str, name: str) -> LiveKey | None:
        """The key if this process has it in memory: no I/O, so it may be asked before authentication."""
        return self._live.peek(f"{mount_id}/{name}")

    def hsm_random(self, count: int) -> bytes:
        """Random bytes of the HSM."""
        return self._hsm().random(count)

    def expire(self) -> int:
        """Drop keys that were not read from the database for an hour; for a timer."""
        return self._live.expire()

    # -- create, read, list -----------------------------------------------------------------------

    def create(self, mount_id: str, name: str, wish: Wish) -> Outcome:
        """A new key, or the unchanged object of the one that has this name."""
        check_name(name, "key name")
        existing = self._row(mount_id, name)
        if existing is not None:
            key = existing.value
            other = wish.protection not in ("", key.protection.value)
            note = (f"key {name} exists with protection {key.protection.value}, which never changes",)
            return answer(self._store.reader(), key, warnings=note if other else ())
        key, version = self._conceive(mount_id, name, wish)
        if version.state is VersionState.PLANNED:
            return Birth(self._envelope, key, version, first=True).external()

        def write(tx: Transaction) -> Result:
            other = tx.get(NAMED_KEYS, name_key(mount_id, name))
            if other is not None:
                return answer(tx, other.value)
            _insert(tx, key, version)
            return answer(tx, key)

        return Change(write)

    def upsert(
        self, mount_id: str, name: str, wish: Wish, uses: int, use: Callable[[LiveKey], Result]
    ) -> Change:
        """Create a key and use it at once, in one commit: `encrypt` on a name that is not there.

        Args:
            mount_id: of the mount that the name is in.
            name: not there yet, or only since a moment ago.
            wish: the key to make; its protection must be software.
            uses: how many encryptions `use` will make.
            use: gets the key; runs inside the transaction, so it may not call the HSM.
        """
        check_name(name, "key name")
        key, version = self._conceive(mount_id, name, wish)

        def write(tx: Transaction) -> Result:
            row = tx.get(NAMED_KEYS, name_key(mount_id, name))
            if row is None:
                _insert(tx, key, version)
            found = row.value if row else key
            current = tx.get(KEY_VERSIONS, version_key(found.id, found.latest_version))
            if current is None or not isinstance(current.value.material, SoftwareMaterial):
                raise moved(found)  # another request made an hsm key of this name just now
            ready = self._live.open(found, current.value)
            if ready.allowance is not None:
                ready.allowance.reserve(tx, uses)

            def only(_key: NamedKey, number: int) -> ReadyVersion:
                if number != ready.number:
                    raise moved(found)
                return ready

            return use(LiveKey(found, 0.0, only))

        return Change(write)

    def read(self, mount_id: str, name: str, context: bytes = b"") -> Result:
        """The key object.

        Args:
            mount_id: of the mount that the name is in.
            name: of the key.
            context: for which a derived signing key shows its public keys.

        Raises:
            KmsError(NOT_FOUND)
        """
        row = self._row(mount_id, name)
        if row is None:
            raise not_found()
        key = row.value
        public_of = None
        if context and key.derived:

            def public_of(version: KeyVersion) -> str:
                derivation = self._live.open(key, version).derivation
                return public_of_context(derivation, context) if derivation else ""

        return answer(self._store.reader(), key, public_of=public_of)

    def names(self, mount_id: str, *, after: str = "", limit: int | None = None) -> list[str]:
        """Names of a mount in order, after `after`; nothing is decrypted."""
        prefix = f"{mount_id}/"
        keys = self._store.reader().keys(
            NAMED_KEYS, prefix, after=f"{prefix}{after}" if after else "", limit=limit
        )
        return [key.removeprefix(prefix) for key in keys]

    # -- change -----------------------------------------------------------------------------------

    def rotate(self, mount_id: str, name: str) -> Outcome:
        """A new primary version; older ones go on decrypting and verifying."""
        row = self._row(mount_id, name)
        if row is None:
            raise invalid("key not found")
        key = row.value
        version = self._envelope.make(key, key.allotted + 1, self._clock.now())
        if version.state is VersionState.PLANNED:
            return Birth(self._envelope, key, version, first=False).external()

        def write(tx: Transaction) -> Result:
            number = named(tx, key).value.allotted + 1
            # A blob is bound to its number; bytes in a sealed row are bound by the row's place.
            if number != version.version and not isinstance(version.material, SoftwareMaterial):
                raise moved(key)
            numbered = replace(version, version=number)
            tx.insert(KEY_VERSIONS, version_key(key.id, number), numbered)
            return answer(tx, activate(tx, key, numbered))

        return Change(write)

    def configure(self, mount_id: str, name: str, given: Mapping[str, Any]) -> Change:
        """Change the given settings; the key object as it then is."""

        def write(tx: Transaction) -> Result:
            row = tx.get(NAMED_KEYS, name_key(mount_id, name))
            if row is None:
                raise invalid(f"no existing key named {name} could be found")
            changed, warnings = configure(row.value, given)
            if changed != row.value:
                tx.replace(NAMED_KEYS, row, changed)
            return answer(tx, changed, warnings=warnings)

        return Change(write)

    def delete(self, mount_id: str, name: str) -> Change:
        """Free the name at once; the material is destroyed after a waiting time, not now."""

        def write(tx: Transaction) -> Result:
            row = tx.get(NAMED_KEYS, name_key(mount_id, name))
            if row is None:
                raise invalid(f"error deleting policy {name}: could not delete key; not found")
            key = row.value
            check_deletion(key)
            due = {"destroy_after": int(self._retire(tx, row).destroy_after)}
            return Result(subject=facts(key, key.latest_version) | due)

        return Change(write)

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Free all names of a mount that is being removed; returns how many.

        `deletion_allowed` guards one key against a slip; removing the mount is a request for all.
        """
        rows = tx.scan(NAMED_KEYS, f"{mount_id}/")
        for row in rows:
            self._retire(tx, row)
        return len(rows)

    def _retire(self, tx: Transaction, row: Row[NamedKey]) -> RetiredKey:
        now = self._clock.now()
        retired = RetiredKey(key=row.value, deleted=now, destroy_after=now + DESTRUCTION_WAIT_SECONDS)
        tx.insert(RETIRED_KEYS, row.value.id, retired)
        tx.delete(NAMED_KEYS, row)
        return retired

    # -- settings of a mount ----------------------------------------------------------------------

    def settings(self, mount_id: str) -> MountSettings:
        """What config/keys holds."""
        row = self._settings.get(mount_id)
        return row.value if row else MountSettings()

    def change_settings(self, mount_id: str, given: Mapping[str, Any]) -> Change:
        """Change the given settings of a mount."""

        def write(tx: Transaction) -> Result:
            row = tx.get(MOUNT_SETTINGS, mount_id)
            old = row.value if row else MountSettings()
            new = replace(old, **given)
            if row is None:
                tx.insert(MOUNT_SETTINGS, mount_id, new)
            elif new != old:
                tx.replace(MOUNT_SETTINGS, row, new)
            return Result(data={"disable_upsert": new.disable_upsert})

        return Change(write)

    # -- after a crash ----------------------------------------------------------------------------

    def resolve(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """Finish or undo a birth that a crash interrupted (`Operation.resolve`)."""
        return resolve(self._store.reader(), self._envelope, intent)

    def destroy_abandoned(self) -> int:
        """Destroy token objects of births that failed. Their rows stay, so that no number comes twice.

        Safe to repeat, and beside running births: only rows whose failure is on record are touched.
        A row counts as cleared only after a while, as an HSM that did not answer in time may still
        have finished later.

        Returns:
            How many abandoned versions were looked at.
        """
        rows = self._store.reader().find(KEY_VERSIONS, {"state": VersionState.ABANDONED.value})
        for row in rows:
            self._envelope.destroy_residents(row.value)
            if self._clock.now() - row.value.created < SETTLING_SECONDS:
                continue
            with self._store.transaction() as tx:
                tx.replace(KEY_VERSIONS, row, replace(row.value, state=VersionState.CLEARED))
        return len(rows)

    def _row(self, mount_id: str, name: str) -> Row[NamedKey] | None:
        return self._store.reader().get(NAMED_KEYS, name_key(mount_id, name))

    def _conceive(self, mount_id: str, name: str, wish: Wish) -> tuple[NamedKey, KeyVersion]:
        now = self._clock.now()
        key = plan(new_id(), mount_id, name, wish, now)
        return key, self._envelope.make(key, 1, now)


def _insert(tx: Transaction, key: NamedKey, version: KeyVersion) -> None:
    tx.insert(NAMED_KEYS, name_key(key.mount, key.name), key)
    tx.insert(KEY_VERSIONS, version_key(key.id, version.version), version)
