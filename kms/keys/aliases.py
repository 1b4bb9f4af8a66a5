"""Aliases: a second name for a key, which can be pointed to another key at any time.

Applications hold the alias, and whoever looks after the keys decides which one it is: a yearly key, a
key of another type, the successor of a compromised one. A name is either a key's or an alias's. An
alias stands for the key that it was pointed at, not for its name: if that key goes, the alias leads
nowhere until it is moved, and never to a stranger that took the name.

Aliases are followed where a key is used and where it is read. What changes a key names the key itself.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from kms.clock import rfc3339
from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.ids import check_name
from kms.keys.core import Core, must
from kms.keys.model import Alias, NamedKey
from kms.keys.store import ALIASES, NAMED_KEYS, name_key
from kms.operation import Change, Result
from kms.tables import Cache, Reader, Transaction

MAX_PER_KEY: Final = 50  # as in AWS KMS; all of them are shown with the key


class Aliases:
    """The verbs. One per process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._cache = Cache(core.store, ALIASES)

    def target(self, mount_id: str, name: str) -> Alias | None:
        """What an alias points at, as of the last refresh; None when there is no such alias."""
        row = self._cache.get(name_key(mount_id, name))
        return row.value if row else None

    def peek(self, mount_id: str, name: str) -> Alias | None:
        """The same from memory alone; None when it is not there."""
        row = self._cache.peek(name_key(mount_id, name))
        return row.value if row else None

    def key(self, mount_id: str, name: str) -> NamedKey | None:
        """The key that an alias stands for now."""
        return aliased(self._core.store.reader(), mount_id, name)

    def point(self, mount_id: str, alias: str, name: str, was: Alias | None) -> Change:
        """Make an alias, or move it. The next request of every worker follows.

        Args:
            mount_id: of the mount that the names are in.
            alias: to make or to move.
            name: of the key that it shall stand for.
            was: what it stood for when this was allowed; it is not moved if that is no longer so.
        """
        check_name(alias, "alias")

        def write(tx: Transaction) -> Result:
            key = must(tx, mount_id, name, f"no existing key named {name} could be found").value
            if tx.get(NAMED_KEYS, name_key(mount_id, alias)) is not None:
                raise invalid(f"{alias} is the name of a key; an alias needs a name of its own")
            now = self._core.clock.now()
            row = tx.get(ALIASES, name_key(mount_id, alias))
            if (row.value if row else None) != was:
                raise KmsError(ErrorKind.CONFLICT, f"alias {alias} was moved by another request; try again")
            if row is None:
                if tx.count(ALIASES, {"key_id": key.id}) >= MAX_PER_KEY:
                    raise invalid(f"a key has at most {MAX_PER_KEY} aliases")
                made = Alias(name=name, key_id=key.id, created=now, moved=now)
                tx.insert(ALIASES, name_key(mount_id, alias), made)
                return _answer(alias, made, {})
            if row.value.key_id == key.id:
                return _answer(alias, row.value, {})
            changed = replace(row.value, name=name, key_id=key.id, moved=now)
            tx.replace(ALIASES, row, changed)
            return _answer(alias, changed, {"previous_key_id": row.value.key_id})

        return Change(write)

    def read(self, mount_id: str, alias: str) -> Result:
        """Where an alias points.

        Raises:
            KmsError(NOT_FOUND)
        """
        row = self._core.store.reader().get(ALIASES, name_key(mount_id, alias))
        if row is None:
            raise not_found()
        return _answer(alias, row.value, {})

    def delete(self, mount_id: str, alias: str) -> Change:
        """Remove an alias; its key stays. No such alias is no error, as in the API."""

        def write(tx: Transaction) -> Result:
            row = tx.get(ALIASES, name_key(mount_id, alias))
            if row is None:
                return Result()
            tx.delete(ALIASES, row)
            return Result(subject={"alias": alias, "key_id": row.value.key_id})

        return Change(write)

    def list(self, mount_id: str, *, after: str, limit: int | None) -> dict[str, dict[str, Any]]:
        """Aliases of a mount in order, after `after`, each with its key's name."""
        prefix = f"{mount_id}/"
        rows = self._core.store.reader().scan(
            ALIASES, prefix, after=f"{prefix}{after}" if after else "", limit=limit
        )
        return {row.key.removeprefix(prefix): {"key": row.value.name} for row in rows}


def aliased(reader: Reader, mount_id: str, name: str) -> NamedKey | None:
    """The key that an alias stands for; None when there is no such alias, or its key is gone."""
    row = reader.get(ALIASES, name_key(mount_id, name))
    if row is None:
        return None
    target = reader.get(NAMED_KEYS, name_key(mount_id, row.value.name))
    return target.value if target is not None and target.value.id == row.value.key_id else None


def follow(tx: Transaction, key: NamedKey) -> None:
    """Let the aliases of a key know the name that it has now."""
    for row in tx.find(ALIASES, {"key_id": key.id}):
        if row.value.name != key.name:
            tx.replace(ALIASES, row, replace(row.value, name=key.name))


def remove(tx: Transaction, key: NamedKey) -> None:
    """Remove the aliases of a key that ends."""
    for row in tx.find(ALIASES, {"key_id": key.id}):
        tx.delete(ALIASES, row)


def remove_all(tx: Transaction, mount_id: str) -> None:
    """Remove the aliases of a mount that ends."""
    for row in tx.scan(ALIASES, f"{mount_id}/"):
        tx.delete(ALIASES, row)


def _answer(alias: str, row: Alias, more: dict[str, str | int]) -> Result:
    data = {
        "alias": alias,
        "key": row.name,
        "creation_time": rfc3339(row.created),
        "moved_time": rfc3339(row.moved),
    }
    return Result(data=data, subject={"alias": alias, "key_id": row.key_id} | more)
