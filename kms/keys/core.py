"""What the verbs of named keys share: the parts of one process, and the looks that each begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kms.clock import Clock
from kms.errors import invalid, not_found
from kms.hsm import Hsm
from kms.ids import new_id
from kms.keys.envelope import Envelope
from kms.keys.lifecycle import Wish, plan
from kms.keys.limits import check_limits
from kms.keys.live import LiveKeys
from kms.keys.model import KeyVersion, MountSettings, NamedKey, VersionState
from kms.keys.store import ALIASES, KEY_VERSIONS, NAMED_KEYS, name_key, version_key
from kms.tables import Cache, Reader, Row, Store, Transaction


@dataclass(frozen=True)
class Core:
    """The parts. One per process."""

    store: Store
    hsm: Callable[[], Hsm]
    clock: Clock
    envelope: Envelope
    live: LiveKeys
    settings: Cache[MountSettings]
    demand: str

    def row(self, mount_id: str, name: str) -> Row[NamedKey] | None:
        """A name's row as it now stands."""
        return self.store.reader().get(NAMED_KEYS, name_key(mount_id, name))

    def conceive(self, mount_id: str, name: str, wish: Wish) -> tuple[NamedKey, KeyVersion]:
        """A key that answers a wish, with its first version; nothing is written."""
        key = self.intend(mount_id, name, wish)
        return key, self.envelope.make(key, 1, key.created)

    def intend(self, mount_id: str, name: str, wish: Wish) -> NamedKey:
        """A key that answers a wish and that its mount takes; it has no material yet."""
        if not wish.protection:
            wish = replace(wish, protection=self.demand or self.mount(mount_id).protection)
        key = plan(new_id(), mount_id, name, wish, self.clock.now())
        self.admit(key)
        return key

    def mount(self, mount_id: str) -> MountSettings:
        """The settings of a mount."""
        row = self.settings.get(mount_id)
        return row.value if row else MountSettings()

    def admit(self, key: NamedKey) -> None:
        """Raise KmsError(INVALID) if the mount or the operator does not want such a new key."""
        check_limits(self.mount(key.mount), self.demand, key)


def insert(tx: Transaction, key: NamedKey, version: KeyVersion) -> None:
    """Write a new key with its one version.

    Raises:
        KmsError(INVALID): the name is an alias.
    """
    check_no_alias(tx, key.mount, key.name)
    tx.insert(NAMED_KEYS, name_key(key.mount, key.name), key)
    tx.insert(KEY_VERSIONS, version_key(key.id, version.version), version)


def check_no_alias(reader: Reader, mount_id: str, name: str) -> None:
    """Raise KmsError(INVALID) if a name that a key is to get is an alias."""
    row = reader.get(ALIASES, name_key(mount_id, name))
    if row is not None:
        raise invalid(f"{name} is an alias of key {row.value.name}; a key needs a name of its own")


def must(reader: Reader, mount_id: str, name: str, missing: str = "") -> Row[NamedKey]:
    """A name's row.

    Raises:
        KmsError(INVALID): there is none, with the sentence `missing`; NOT_FOUND when that is "".
    """
    row = reader.get(NAMED_KEYS, name_key(mount_id, name))
    if row is None:
        raise invalid(missing) if missing else not_found()
    return row


def active_version(reader: Reader, key: NamedKey, number: int, missing: str) -> Row[KeyVersion]:
    """One version's row.

    Raises:
        KmsError(INVALID): there is none that is in use, with the sentence `missing`.
    """
    row = reader.get(KEY_VERSIONS, version_key(key.id, number))
    if row is None or row.value.state is not VersionState.ACTIVE:
        raise invalid(missing)
    return row
