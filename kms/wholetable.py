"""A whole cached table in memory, for tables that every request looks at: mounts, namespaces.

A change of one row is read alone, whatever the number of the others: with ten thousand mounts, reading all of them
anew for each change would stop every worker for as long as that takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from kms.tables import Row, Store, Table

T = TypeVar("T", bound=msgspec.Struct)
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T, D]):
    """All rows, and what was made of each, by row key. Never changed."""

    rows: Mapping[str, Row[T]]
    made: Mapping[str, D]


class WholeTable(Generic[T, D]):
    """One per process and table, safe to use from several threads. Correct under `Store.refresh`.

    Args:
        make: what is wanted of a row beside itself.

    Attributes:
        current: everything, None while something of it has changed or was never read. Asked with every request.
    """

    def __init__(self, store: Store, table: Table[T], make: Callable[[Row[T]], D]) -> None:
        if not table.cached:
            raise ValueError(f"table {table.name} does not announce its changes")
        self.current: Snapshot[T, D] | None = None
        self._store = store
        self._table = table
        self._make = make
        self._old: Snapshot[T, D] | None = None
        self._changed: set[str] = set()
        self._epoch = 0
        self._lock = threading.Lock()
        store.watch(table, self)

    def drop(self, key: str) -> None:
        """One row changed (kms.tables.CacheListener)."""
        with self._lock:
            self._epoch += 1
            if self.current is not None:
                self._old, self._changed = self.current, set()
                self.current = None
            self._changed.add(key)

    def clear(self) -> None:
        """Forget everything (kms.tables.CacheListener)."""
        with self._lock:
            self._epoch += 1
            self.current = self._old = None

    def get(self) -> Snapshot[T, D]:
        """Everything as of the last `Store.refresh` of this thread, or newer."""
        found = self.current
        if found is not None:
            return found
        with self._lock:
            before, old, changed = self._epoch, self._old, tuple(self._changed)
        found = self._read() if old is None else self._again(old, changed)
        # A change that arrived while we read must not be hidden by what we read before it.
        with self._lock:
            if self._epoch == before:
                self.current, self._old = found, None
        return found

    def _read(self) -> Snapshot[T, D]:
        rows = {row.key: row for row in self._store.reader().scan(self._table)}
        return Snapshot(rows, {key: self._make(row) for key, row in rows.items()})

    def _again(self, old: Snapshot[T, D], changed: tuple[str, ...]) -> Snapshot[T, D]:
        rows, made, reader = dict(old.rows), dict(old.made), self._store.reader()
        for key in changed:
            row = reader.get(self._table, key)
            if row is None:
                rows.pop(key, None)
                made.pop(key, None)
            else:
                rows[key], made[key] = row, self._make(row)
        return Snapshot(rows, made)
