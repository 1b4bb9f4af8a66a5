"""The storage port: what a domain may ask of the database, whichever database it is.

A domain declares `Table`s of msgspec structs and reads and writes them through `Reader` and
`Transaction`. `kms.storage` implements the port; nothing above it knows SQL. Values of sealed tables
are encrypted before they reach the driver and bound to their place (instance, table tag, key,
revision, term, index columns), so a flipped, swapped or moved row is refused when it is read.

Keys are strings, ordered bytewise; compound keys are joined with '/', which no name contains.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class Table(Generic[T]):
    """One kind of row.

    Args:
        tag: stable name inside the AAD; never renamed, never reused.
        name: the SQL table, made by a numbered migration in kms/storage/migrations.
        model: the struct that a row holds. Fields may be added with defaults, never reordered.
        index: attributes of the model that are copied, in clear, to columns of the same name so that
            `find` can use them. They are part of the AAD. str, int, float or bytes only.
        sealed: False only for rows that must be readable before the HSM is open (and hold nothing
            secret).
        cached: True when processes keep decoded rows in memory; every write is then announced to
            all workers (see `Store.refresh`).
        digest: the security domain whose state digest covers this table, or "" for none.

    Attributes:
        decode: bytes -> the model. Made here, before there are threads: msgspec prepares a struct when it is first
            decoded, and two threads that do so at the same time crash the process.
    """

    tag: str
    name: str
    model: type[T]
    index: tuple[str, ...] = ()
    sealed: bool = True
    cached: bool = False
    digest: str = ""
    decode: Callable[[bytes], T] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decode", msgspec.msgpack.Decoder(self.model).decode)


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """A verified row. `revision` starts at 1 and grows by one with each replace."""

    key: str
    revision: int
    value: T


class Reader(Protocol):
    """Reads. Each call sees the newest committed state (inside a transaction: its own writes too).

    Raises:
        KmsError(INTEGRITY): a row does not verify. KmsError(SEALED): a sealed table before unseal.
    """

    def get(self, table: Table[T], key: str) -> Row[T] | None:
        """The row, or None."""
        ...

    def scan(
        self, table: Table[T], prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[Row[T]]:
        """Rows whose key starts with `prefix` and is greater than `after`, in key order."""
        ...

    def keys(
        self, table: Table[T], prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        """Like `scan`, keys only: nothing is decrypted, and nothing is verified."""
        ...

    def find(
        self,
        table: Table[T],
        where: Mapping[str, str | int | float | bytes],
        *,
        below: tuple[str, float] | None = None,
        limit: int | None = None,
    ) -> list[Row[T]]:
        """Rows whose index columns equal `where` and, with `below=(column, x)`, column < x."""
        ...

    def count(self, table: Table[T], where: Mapping[str, str | int | float | bytes]) -> int:
        """How many rows match, without reading them."""
        ...


class Transaction(Reader, Protocol):
    """One BEGIN IMMEDIATE ... COMMIT. Durable when the context manager exits without an exception.

    No HSM call, network call or password hash may run while one is open.
    """

    def insert(self, table: Table[T], key: str, value: T) -> Row[T]:
        """Add a row. Raises KmsError(CONFLICT) when the key exists."""
        ...

    def insert_all(self, table: Table[T], rows: Mapping[str, T]) -> None:
        """Add rows, by their keys, to a table that is neither sealed, cached nor digested: one statement for all.

        Raises KmsError(CONFLICT) when one of the keys exists.
        """
        ...

    def replace(self, table: Table[T], row: Row[T], value: T) -> Row[T]:
        """Compare-and-swap on `row.revision`. Raises KmsError(CONFLICT) when it moved or is gone."""
        ...

    def delete(self, table: Table[T], row: Row[T]) -> None:
        """Remove exactly this revision. Raises KmsError(CONFLICT) when it moved or is gone."""
        ...

    def delete_all(self, table: Table[Any], keys: Sequence[str]) -> None:
        """Remove rows, whatever they hold, from a table that is neither cached nor digested; what is not there is passed over."""
        ...

    def end_terms(self, below: int) -> None:
        """From this commit on no process seals a row under a keyring term below this one.

        Raises KmsError(CONFLICT) when a row of any table is left under one of them: it would be lost.
        """
        ...


class CacheListener(Protocol):
    """Something that keeps decoded rows of a `cached` table."""

    def drop(self, key: str) -> None:
        """Forget what was derived from this row."""
        ...

    def clear(self) -> None:
        """Forget everything: too much changed to list."""
        ...


class Store(Protocol):
    """The database of one process. Safe to use from several threads."""

    def reader(self) -> Reader:
        """Reads on this thread's connection."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """A write transaction; rolled back when the block raises."""
        ...

    def refresh(self, *, thorough: bool = False) -> int:
        """Bring this process's caches up to everything that was acknowledged before this call.

        Costs a read of shared memory when nothing changed. `thorough` looks into the database itself, for what
        processes committed that died before they could tell. Returns the sequence number of the newest change
        seen, the *generation* that decisions are recorded under.
        """
        ...

    def watch(self, table: Table[T], listener: CacheListener) -> None:
        """Call `listener` for each committed change of a cached table, by whichever process."""
        ...


class Cache(Generic[T]):
    """A bounded map of decoded rows of one table, correct under `Store.refresh`.

    Eviction is by age of insertion: cheap, and good enough where misses cost one indexed read.
    """

    def __init__(self, store: Store, table: Table[T], size: int = 4096) -> None:
        if not table.cached:
            raise ValueError(f"table {table.name} does not announce its changes")
        self._store = store
        self._table = table
        self._size = size
        self._rows: dict[str, Row[T]] = {}
        self._epoch = _Epoch()
        self._lock = threading.Lock()
        store.watch(table, self)

    def peek(self, key: str) -> Row[T] | None:
        """The row if it is in memory: no I/O."""
        return self._rows.get(key)

    def get(self, key: str) -> Row[T] | None:
        """The row as of the last `Store.refresh` of this thread, or newer. Absence is not cached."""
        row = self._rows.get(key)
        if row is not None:
            return row
        # A change that arrives between our read and our insert must win: remember the epoch first.
        before = self._epoch.value
        row = self._store.reader().get(self._table, key)
        if row is None:
            return None
        # Compared and kept under one lock: a row kept first and withdrawn after could be handed to a
        # thread that began after the change was answered (T-32b).
        with self._lock:
            if self._epoch.value == before:
                if len(self._rows) >= self._size:
                    self._rows.pop(next(iter(self._rows)))
                self._rows[key] = row
        return row

    def drop(self, key: str) -> None:
        with self._lock:
            self._epoch.value += 1
            self._rows.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._epoch.value += 1
            self._rows = {}


@dataclass(slots=True)
class _Epoch:
    value: int = field(default=0)
