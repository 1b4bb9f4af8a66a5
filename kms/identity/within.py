"""The rows of one namespace, as if there were no other.

The handlers of identity work on a `Reader` or `Transaction`, and never name a namespace: `reading` and `writing` give
them those of the namespace that a call is for, in which each key stands behind the namespace's ID. So an ID or a name
of another namespace, be it above, below or beside, is what one is that never existed, and no handler can forget to ask.
(The root namespace's keys carry nothing in front; a key with a slash where none has one is unknown there.)

What an entity, an alias or a group is called all over the server ends in the namespace's ID, as tokens do:
`<uuid>.<namespace ID>`. That is how `of_id` finds the rows of an entity that a token names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kms.ids import new_uuid
from kms.namespaces import scoped_prefix
from kms.operation import ROOT_NAMESPACE, NamespaceRef
from kms.tables import Reader, Row, T, Table, Transaction

_ROOT_ID: Final = "root"
_COMPOUND: Final = frozenset({"identity-pointer", "identity-membership"})
"""Tags of tables whose keys are made of a word of ours and IDs, with slashes, and which nobody lists as a whole."""


class Within:
    """Implements `kms.tables.Reader`: the reads of one namespace.

    Args:
        rows: those of all namespaces, for tables that know none: keys of this server.
        namespace: whose are seen.
    """

    def __init__(self, rows: Reader, namespace: NamespaceRef) -> None:
        self.rows = rows
        self.namespace = namespace
        self._prefix = scoped_prefix(namespace)

    def get(self, table: Table[T], key: str) -> Row[T] | None:
        if not self._prefix and _foreign(table, key):
            return None
        return self._bare(self.rows.get(table, self._prefix + key))

    def scan(
        self, table: Table[T], prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[Row[T]]:
        if not self._prefix and not prefix:
            # Keys alone are cheap to pass over; rows of other namespaces are not even decrypted.
            found = (self.rows.get(table, key) for key in self.keys(table, after=after, limit=limit))
            return [row for row in found if row is not None]
        rows = self.rows.scan(table, self._prefix + prefix, after=self._after(after), limit=limit)
        return [Row(self._without(row.key), row.revision, row.value) for row in rows]

    def keys(
        self, table: Table[T], prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        if self._prefix or prefix:
            keys = self.rows.keys(table, self._prefix + prefix, after=self._after(after), limit=limit)
            return [self._without(key) for key in keys]
        own = [key for key in self.rows.keys(table, after=after) if not _foreign(table, key)]
        return own if limit is None else own[:limit]

    def find(
        self,
        table: Table[T],
        where: Mapping[str, str | int | float | bytes],
        *,
        below: tuple[str, float] | None = None,
        limit: int | None = None,
    ) -> list[Row[T]]:
        rows = self.rows.find(table, where, below=below)
        own = [Row(self._without(row.key), row.revision, row.value) for row in rows if self._owns(table, row)]
        return own if limit is None else own[:limit]

    def count(self, table: Table[T], where: Mapping[str, str | int | float | bytes]) -> int:
        return len(self.find(table, where))

    # -- names -----------------------------------------------------------------------------------------------

    @property
    def shown_id(self) -> str:
        """What the API calls the namespace where it says its ID."""
        return shown_id(self.namespace)

    def new_id(self) -> str:
        """The ID of something new in the namespace."""
        return f"{new_uuid()}.{self.namespace.id}" if self.namespace.id else new_uuid()

    def stored(self, row: Row[T]) -> Row[T]:
        """A row of the namespace as it is among those of all namespaces."""
        return Row(self._prefix + row.key, row.revision, row.value)

    # -- keys ------------------------------------------------------------------------------------------------

    def _after(self, after: str) -> str:
        return self._prefix + after if after else ""

    def _without(self, key: str) -> str:
        return key[len(self._prefix) :]

    def _owns(self, table: Table[T], row: Row[T]) -> bool:
        if self._prefix:
            return row.key.startswith(self._prefix)
        return not _foreign(table, row.key)

    def _bare(self, row: Row[T] | None) -> Row[T] | None:
        return Row(self._without(row.key), row.revision, row.value) if row is not None else None


class Writing(Within):
    """Implements `kms.tables.Transaction`: the same, with the writes of one namespace."""

    def __init__(self, rows: Transaction, namespace: NamespaceRef) -> None:
        super().__init__(rows, namespace)
        self._tx = rows

    def insert(self, table: Table[T], key: str, value: T) -> Row[T]:
        if not self._prefix and _foreign(table, key):
            raise ValueError(f"{table.name}: no key of the root namespace holds a slash")
        row = self._tx.insert(table, self._prefix + key, value)
        return Row(key, row.revision, row.value)

    def insert_all(self, table: Table[T], rows: Mapping[str, T]) -> None:
        self._tx.insert_all(table, {self._prefix + key: value for key, value in rows.items()})

    def delete_all(self, table: Table[Any], keys: Sequence[str]) -> None:
        self._tx.delete_all(table, [self._prefix + key for key in keys])

    def replace(self, table: Table[T], row: Row[T], value: T) -> Row[T]:
        stored = self._tx.replace(table, self.stored(row), value)
        return Row(row.key, stored.revision, stored.value)

    def delete(self, table: Table[T], row: Row[T]) -> None:
        self._tx.delete(table, self.stored(row))

    def end_terms(self, below: int) -> None:
        self._tx.end_terms(below)


def _foreign(table: Table[T], key: str) -> bool:
    """Whether a stored key cannot be one of the root namespace."""
    return "/" in key and table.tag not in _COMPOUND


def shown_id(namespace: NamespaceRef) -> str:
    """What the API calls a namespace where it says its ID."""
    return namespace.id or _ROOT_ID


def namespace_id_of(identifier: str) -> str:
    """The ID of the namespace that an entity's, alias's or group's ID ends in; "" for the root namespace's."""
    return identifier.partition(".")[2]


def of_id(rows: Reader, identifier: str) -> Within:
    """The rows of the namespace that an ID names. Only for IDs that are not the caller's word: those of tokens."""
    namespace_id = namespace_id_of(identifier)
    return Within(rows, NamespaceRef(namespace_id, "") if namespace_id else ROOT_NAMESPACE)
