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
from kms.ids import check_name
from kms.keys import limits
from kms.keys.agreement import Agreements
from kms.keys.aliases import Aliases
from kms.keys.backup import Backups
from kms.keys.birth import Birth, activate, answer, named, resolve
from kms.keys.certificates import Certificates
from kms.keys.core import Core, check_no_alias, insert
from kms.keys.envelope import Envelope
from kms.keys.export import Exports
from kms.keys.importing import Imports
from kms.keys.joint import JointRoots
from kms.keys.lifecycle import Wish, check_rotation, check_wish, configure, moved
from kms.keys.live import LiveKey, LiveKeys
from kms.keys.living import Living
from kms.keys.model import (
    KeyVersion,
    MountSettings,
    NamedKey,
    RootProvider,
    SoftwareMaterial,
    VersionState,
)
from kms.keys.ready import ReadyVersion
from kms.keys.retirement import Chore, Retirement, as_chore
from kms.keys.store import KEY_VERSIONS, MOUNT_SETTINGS, NAMED_KEYS, name_key, version_key
from kms.keys.view import public_of_context
from kms.operation import Change, External, Outcome, Result
from kms.tables import Cache, Store, Transaction

# How long after a failed birth an object of it might still appear in the token.
SETTLING_SECONDS: Final = 3_600.0


class KeyService:
    """Named keys of all mounts. One per process, thread safe.

    Args:
        store: the database; must be unlocked before a verb is used.
        hsm: gives this process's HSM, or raises KmsError(HSM_UNAVAILABLE, SEALED).
        roots: what new blobs are wrapped under.
        instance_id: the server's id, bound into every blob.
        demand: the protection that every new key must have, or "".
    """

    def __init__(
        self,
        store: Store,
        hsm: Callable[[], Hsm],
        roots: RootProvider,
        instance_id: str,
        clock: Clock,
        demand: str = "",
    ) -> None:
        envelope = Envelope(hsm, roots, instance_id, JointRoots(store, hsm))
        self._live = LiveKeys(store, hsm, envelope, clock)
        settings = Cache(store, MOUNT_SETTINGS)
        self.core = Core(store, hsm, clock, envelope, self._live, settings, demand)
        self.aliases = Aliases(self.core)
        self.living = Living(self.core)
        self.retirement = Retirement(self.core)
        self.exports = Exports(self.core)
        self.backups = Backups(self.core, self.retirement)
        self.imports = Imports(self.core, self.exports)
        self.certificates = Certificates(self.core)
        self.agreements = Agreements(self.core)

    # -- use --------------------------------------------------------------------------------------

    def get(self, mount_id: str, name: str) -> LiveKey | None:
        """The key for use, as of the last refresh; None when there is no such name. Follows an alias."""
        row_key = f"{mount_id}/{name}"
        live = self._live.held(row_key)
        if live is not None:
            return live
        alias = self.aliases.target(mount_id, name)
        if alias is None:
            return self._live.get(row_key)
        live = self._live.get(f"{mount_id}/{alias.name}")
        return live if live is not None and live.key.id == alias.key_id else None

    def peek(self, mount_id: str, name: str) -> LiveKey | None:
        """The key if this process has it in memory: no I/O, so it may be asked before authentication."""
        live = self._live.peek(f"{mount_id}/{name}")
        if live is not None:
            return live
        alias = self.aliases.peek(mount_id, name)
        return self._live.peek(f"{mount_id}/{alias.name}") if alias else None

    def hsm_random(self, count: int) -> bytes:
        """Random bytes of the HSM."""
        return self.core.hsm().random(count)

    def retire_mount(self, tx: Transaction, mount_id: str) -> int:
        """Free all names of a mount that is being removed; returns how many."""
        return self.retirement.retire_mount(tx, mount_id)

    def expire(self) -> int:
        """Drop keys that were not read from the database for an hour; for a timer."""
        return self._live.expire()

    # -- create, read, list -----------------------------------------------------------------------

    def create(self, mount_id: str, name: str, wish: Wish) -> Outcome:
        """A new key, or the unchanged object of the one that has this name."""
        check_name(name, "key name")
        existing = self.core.row(mount_id, name)
        if existing is not None:
            check_wish(wish)  # what makes no sense is refused all the same
            key = existing.value
            other = wish.protection not in ("", key.protection.value)
            note = (f"key {name} exists with protection {key.protection.value}, which never changes",)
            return answer(
                self.core.store.reader(), key, warnings=note if other else (), now=self.core.clock.now()
            )
        check_no_alias(self.core.store.reader(), mount_id, name)
        key, version = self.core.conceive(mount_id, name, wish)
        if version.state is VersionState.PLANNED:
            return Birth(self.core.envelope, key, version, first=True).external()

        def write(tx: Transaction) -> Result:
            other = tx.get(NAMED_KEYS, name_key(mount_id, name))
            if other is not None:
                return answer(tx, other.value)
            insert(tx, key, version)
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
        key, version = self.core.conceive(mount_id, name, wish)

        def write(tx: Transaction) -> Result:
            row = tx.get(NAMED_KEYS, name_key(mount_id, name))
            if row is None:
                insert(tx, key, version)
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

            return use(LiveKey(found, 0.0, only, self.core.clock))

        return Change(write)

    def read(self, mount_id: str, name: str, context: bytes = b"") -> Result:
        """The key object, of an alias that of the key which it stands for.

        Args:
            mount_id: of the mount that the name is in.
            name: of the key.
            context: for which a derived signing key shows its public keys.

        Raises:
            KmsError(NOT_FOUND)
        """
        row = self.core.row(mount_id, name)
        key = row.value if row else self.aliases.key(mount_id, name)
        if key is None:
            raise not_found()
        public_of = None
        if context and key.derived:

            def public_of(version: KeyVersion) -> str:
                derivation = self._live.open(key, version).derivation
                return public_of_context(derivation, context) if derivation else ""

        return answer(self.core.store.reader(), key, public_of=public_of, now=self.core.clock.now())

    def names(self, mount_id: str, *, after: str = "", limit: int | None = None) -> list[str]:
        """Names of a mount in order, after `after`; nothing is decrypted."""
        prefix = f"{mount_id}/"
        keys = self.core.store.reader().keys(
            NAMED_KEYS, prefix, after=f"{prefix}{after}" if after else "", limit=limit
        )
        return [key.removeprefix(prefix) for key in keys]

    # -- change -----------------------------------------------------------------------------------

    def rotate(self, mount_id: str, name: str) -> Outcome:
        """A new primary version; older ones go on decrypting and verifying."""
        row = self.core.row(mount_id, name)
        if row is None:
            raise invalid("key not found")
        check_rotation(row.value, self.core.clock.now())
        return self._rotate(row.value)

    def _rotate(self, key: NamedKey) -> Change | External[bytes]:
        version = self.core.envelope.make(key, key.allotted + 1, self.core.clock.now())
        if version.state is VersionState.PLANNED:
            return Birth(self.core.envelope, key, version, first=False).external()

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
            now = self.core.clock.now()
            changed, warnings = configure(row.value, given, now)
            if changed != row.value:
                tx.replace(NAMED_KEYS, row, changed)
            return answer(tx, changed, warnings=warnings, now=now)

        return Change(write)

    def chores(self, now: float, limit: int = 64) -> list[Chore]:
        """Background work that has come due, for the jobs process; a failed chore comes due again.

        Rotations of keys with an auto_rotate_period, changes of state whose date has come, and
        destructions of what waited long enough.
        """
        return [*self.dates_due(now, limit), *self.retirement.destructions(now, limit)]

    def dates_due(self, now: float, limit: int) -> list[Chore]:
        """States that dates have changed, and the next versions of keys whose period is over.

        The HSM makes wrapped ones here and now.
        """
        rows = self.core.store.reader().find(NAMED_KEYS, {}, below=("rotate_at", now), limit=limit)
        chores = []
        for row in rows:
            key = row.value
            if key.life.turn_at <= now:
                chores.append(Chore("transit.keys.turn", key.mount, self.living.turn(key)))
            elif key.rotation_due <= now:
                chores.append(Chore("transit.keys.rotate", key.mount, as_chore(key, self._rotate(key))))
        return chores

    # -- settings of a mount ----------------------------------------------------------------------

    def settings(self, mount_id: str) -> MountSettings:
        """What config/keys and cache-config hold."""
        return self.core.mount(mount_id)

    def change_settings(
        self, mount_id: str, given: Mapping[str, Any], show: Callable[[MountSettings], dict[str, Any]]
    ) -> Change:
        """Change the given settings of a mount; answers what `show` makes of them then."""

        def write(tx: Transaction) -> Result:
            row = tx.get(MOUNT_SETTINGS, mount_id)
            old = row.value if row else MountSettings()
            new = limits.configured(old, given)
            if row is None:
                tx.insert(MOUNT_SETTINGS, mount_id, new)
            elif new != old:
                tx.replace(MOUNT_SETTINGS, row, new)
            return Result(data=show(new))

        return Change(write)

    # -- after a crash ----------------------------------------------------------------------------

    def resolve(self, intent: Mapping[str, str | int]) -> External[Any] | None:
        """Finish or undo a birth that a crash interrupted (`Operation.resolve`)."""
        return resolve(self.core.store.reader(), self.core.envelope, intent)

    def destroy_abandoned(self) -> int:
        """Destroy token objects of births that failed. Their rows stay, so that no number comes twice.

        Safe to repeat, and beside running births: only rows whose failure is on record are touched.
        A row counts as cleared only after a while, as an HSM that did not answer in time may still
        have finished later.

        Returns:
            How many abandoned versions were looked at.
        """
        rows = self.core.store.reader().find(KEY_VERSIONS, {"state": VersionState.ABANDONED.value})
        for row in rows:
            self.core.envelope.destroy_residents(row.value)
            if self.core.clock.now() - row.value.created < SETTLING_SECONDS:
                continue
            with self.core.store.transaction() as tx:
                tx.replace(KEY_VERSIONS, row, replace(row.value, state=VersionState.CLEARED))
        return len(rows) + self.imports.hsm.destroy_gone()
