"""Reading and writing declared tables: the only place where SQL for domains is made.

Table and column names come from `Table` declarations in code, never from a request; every value is a
bound parameter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlite_utils import Database

from kms.errors import ErrorKind, KmsError, integrity
from kms.storage.sealing import Index, RowSealer
from kms.storage.sqlite import storage_errors
from kms.tables import Row, T, Table

_UNSEALED = 0  # the term column of tables that are not sealed
# What holds rows as migrations make them. Names come from our own migrations.
_SEALED_TABLES = (
    "SELECT name FROM sqlite_master AS tbl WHERE type = 'table' AND 2 ="
    " (SELECT count(*) FROM pragma_table_info(tbl.name) WHERE name IN ('term', 'body')) ORDER BY name"
)
_encode = msgspec.msgpack.Encoder().encode
_MOD = 1 << 256
_Stored = tuple[int, int, bytes]  # term, revision, sealed body


def _index(table: Table[T], value: T) -> list[Index]:
    return [getattr(value, column) for column in table.index]


class SqliteReader:
    """Implements `kms.tables.Reader` on one connection."""

    def __init__(self, db: Database, sealer: Callable[[], RowSealer]) -> None:
        self._db = db
        self._sealer = sealer

    def get(self, table: Table[T], key: str) -> Row[T] | None:
        found = self._query(table, "WHERE key = ?", [key])
        return found[0] if found else None

    def scan(
        self, table: Table[T], prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[Row[T]]:
        clause, values = _range(prefix, after, limit)
        return self._query(table, clause, values)

    def keys(
        self, table: Table[T], prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> list[str]:
        clause, values = _range(prefix, after, limit)
        rows = self._execute(f"SELECT key FROM {table.name} {clause}", values)  # noqa: S608  (declared name)
        return [row[0] for row in rows]

    def find(
        self,
        table: Table[T],
        where: Mapping[str, str | int | float | bytes],
        *,
        below: tuple[str, float] | None = None,
        limit: int | None = None,
    ) -> list[Row[T]]:
        clause, values = _where(table, where, below)
        if limit is not None:
            clause += " LIMIT ?"
            values.append(limit)
        return self._query(table, clause, values)

    def count(self, table: Table[T], where: Mapping[str, str | int | float | bytes]) -> int:
        clause, values = _where(table, where, None)
        return int(self._execute(f"SELECT count(*) FROM {table.name} {clause}", values)[0][0])  # noqa: S608  (declared name)

    def row_digest(self, table: Table[T], key: str) -> int:
        """The stored row's share of its domain's digest (for the sweep)."""
        sql = f"SELECT term, revision, body FROM {table.name} WHERE key = ?"  # noqa: S608  (declared name)
        return self._sealer().digest(table.tag, key, *self._execute(sql, [key])[0])

    def sealed_under(self, term: int) -> int:
        """How many times a row was sealed under this keyring term (the bound is 2^32, SP 800-38D 8.3)."""
        record = self._execute("SELECT sealed FROM keyring_usage WHERE term = ?", [term])
        return int(record[0][0]) if record else 0

    def sealed_before(self, table: Table[T], term: int, after: str, limit: int) -> list[str]:
        """Keys, in order and greater than `after`, of rows that are sealed under an older term than this."""
        sql = f"SELECT key FROM {table.name} WHERE term > ? AND term < ? AND key > ? ORDER BY key LIMIT ?"  # noqa: S608  (declared name)
        return [row[0] for row in self._execute(sql, [_UNSEALED, term, after, limit])]

    def tables_before(self, term: int) -> list[str]:
        """Names of all tables, declared to us or not, that hold a row under an older term than this."""
        names = [row[0] for row in self._execute(_SEALED_TABLES, [])]
        sql = "SELECT 1 FROM {} WHERE term > ? AND term < ? LIMIT 1"
        return [name for name in names if self._execute(sql.format(name), [_UNSEALED, term])]

    def digests(self) -> dict[str, int]:
        """Every domain's kept digest, the writers' rows added up."""
        sums: dict[str, int] = {}
        for domain, part in self._execute("SELECT domain, sum FROM state_digests", []):
            sums[domain] = (sums.get(domain, 0) + int.from_bytes(part, "big")) % _MOD
        return sums

    def _query(self, table: Table[T], clause: str, values: Sequence[Any]) -> list[Row[T]]:
        columns = "".join(f", {column}" for column in table.index)
        sql = f"SELECT key, revision, term, body{columns} FROM {table.name} {clause}"  # noqa: S608  (declared names)
        return [self._row(table, record) for record in self._execute(sql, values)]

    def _row(self, table: Table[T], record: Sequence[Any]) -> Row[T]:
        key, revision, term, body, *index = record
        if table.sealed:
            body = self._sealer().open(table.tag, key, term, revision, index, body)
        elif term != _UNSEALED:
            raise integrity(f"a stored row of {table.tag} claims to be sealed")
        try:
            value = table.decode(body)
        except msgspec.MsgspecError:
            raise integrity(f"a stored row of {table.tag} cannot be read") from None
        return Row(key, revision, value)

    def _execute(self, sql: str, values: Sequence[Any]) -> list[Any]:
        try:
            return self._db.conn.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            raise KmsError(ErrorKind.STORAGE_UNAVAILABLE, f"the database did not answer: {error}") from error


class SqliteTransaction(SqliteReader):
    """Implements `kms.tables.Transaction`. Made by `SqliteStore.transaction` only."""

    def __init__(self, db: Database, sealer: Callable[[], RowSealer]) -> None:
        super().__init__(db, sealer)
        self.announced = False
        self._digests: dict[str, int] = {}
        self._sealed: dict[int, int] = {}
        self._drawn: dict[int, int] | None = None
        self._sealed_by: RowSealer | None = None
        self.lasting: set[int] = set()
        """Terms that this COMMIT's members found not to have ended; all of them write under one lock."""

    def insert(self, table: Table[T], key: str, value: T) -> Row[T]:
        index = _index(table, value)
        term, body = self._seal(table, key, 1, index, value)
        marks = ", ?" * len(index)
        columns = "".join(f", {column}" for column in table.index)
        try:
            self._db.conn.execute(
                f"INSERT INTO {table.name} (key, revision, term, body{columns})"  # noqa: S608  (declared names)
                f" VALUES (?, 1, ?, ?{marks})",
                [key, term, body, *index],
            )
        except sqlite3.IntegrityError:
            raise _conflict(table) from None
        except sqlite3.OperationalError as error:
            raise KmsError(ErrorKind.STORAGE_UNAVAILABLE, f"the database did not answer: {error}") from error
        self._account(table, key, None, (term, 1, body))
        return Row(key, 1, value)

    def insert_all(self, table: Table[T], rows: Mapping[str, T]) -> None:
        if table.sealed or table.cached or table.digest or table.index:
            raise TypeError(f"rows of {table.tag} are more than their bytes: use insert")
        try:
            self._db.conn.executemany(
                f"INSERT INTO {table.name} (key, revision, term, body) VALUES (?, 1, {_UNSEALED}, ?)",  # noqa: S608  (declared name)
                [(key, _encode(value)) for key, value in rows.items()],
            )
        except sqlite3.IntegrityError:
            raise _conflict(table) from None
        except sqlite3.OperationalError as error:
            raise KmsError(ErrorKind.STORAGE_UNAVAILABLE, f"the database did not answer: {error}") from error

    def replace(self, table: Table[T], row: Row[T], value: T) -> Row[T]:
        old = self._stored(table, row)
        revision = row.revision + 1
        index = _index(table, value)
        term, body = self._seal(table, row.key, revision, index, value)
        columns = "".join(f", {column} = ?" for column in table.index)
        self._execute(
            f"UPDATE {table.name} SET revision = ?, term = ?, body = ?{columns} WHERE key = ?",  # noqa: S608  (declared name)
            [revision, term, body, *index, row.key],
        )
        self._account(table, row.key, old, (term, revision, body))
        return Row(row.key, revision, value)

    def delete(self, table: Table[T], row: Row[T]) -> None:
        old = self._stored(table, row)
        self._execute(f"DELETE FROM {table.name} WHERE key = ?", [row.key])  # noqa: S608  (declared name)
        self._account(table, row.key, old, None)

    def delete_all(self, table: Table[Any], keys: Sequence[str]) -> None:
        if table.cached or table.digest:
            raise TypeError(f"a row of {table.tag} does not go unseen: use delete")
        with storage_errors():
            self._db.conn.executemany(
                f"DELETE FROM {table.name} WHERE key = ?",  # noqa: S608  (declared name)
                [(key,) for key in keys],
            )

    def end_terms(self, below: int) -> None:
        """Nobody seals under a term below this one from this commit on (see `RowSealer.end` for reading).

        Raises:
            KmsError(CONFLICT): a row is left under one of them; it would be lost.
        """
        if left := self.tables_before(below):
            raise KmsError(ErrorKind.CONFLICT, f"rows of {', '.join(left)} are still under older terms")
        self.lasting.clear()
        for term in range(_UNSEALED + 1, below):
            self._execute(
                "INSERT INTO keyring_usage (term, sealed, ended) VALUES (?, 0, 1)"
                " ON CONFLICT (term) DO UPDATE SET ended = 1",
                [term],
            )

    def finish(self) -> None:
        """Write the accumulated digests and counts; called just before COMMIT.

        Raises:
            KmsError(CONFLICT): this process had not heard that the term it sealed under was ended.
        """
        self._drawn = {}
        for term, count in self._sealed.items():
            if term not in self.lasting:
                if self._execute("SELECT 1 FROM keyring_usage WHERE term = ? AND ended = 1", [term]):
                    raise KmsError(ErrorKind.CONFLICT, "the keyring was renewed at the same time; try again")
                self.lasting.add(term)
            drawn = self._drawn[term] = self._sealer().spend(term, count)
            if not drawn:
                continue
            self._execute(
                "INSERT INTO keyring_usage (term, sealed) VALUES (?, ?)"
                " ON CONFLICT (term) DO UPDATE SET sealed = sealed + excluded.sealed",
                [term, drawn],
            )
        for domain, change in self._digests.items():
            record = self._execute(
                "SELECT sum FROM state_digests WHERE domain = ? AND writer = '0'", [domain]
            )
            total = (int.from_bytes(record[0][0], "big") if record else 0) + change
            self._execute(
                "INSERT INTO state_digests (domain, writer, sum) VALUES (?, '0', ?)"
                " ON CONFLICT (domain, writer) DO UPDATE SET sum = excluded.sum",
                [domain, (total % _MOD).to_bytes(32, "big")],
            )

    def undo(self) -> None:
        """The transaction was rolled back: its uses still count, what it drew was not written."""
        if self._sealed_by is None:
            return
        for term, count in (self._sealed if self._drawn is None else self._drawn).items():
            self._sealed_by.owe(term, count)

    def _stored(self, table: Table[T], row: Row[T]) -> _Stored:
        # BEGIN IMMEDIATE makes read-compare-write atomic: no other writer can come between.
        found = self._execute(
            f"SELECT term, revision, body FROM {table.name} WHERE key = ? AND revision = ?",  # noqa: S608  (declared name)
            [row.key, row.revision],
        )
        if not found:
            raise _conflict(table)
        stored: _Stored = found[0]
        return stored

    def _seal(
        self, table: Table[T], key: str, revision: int, index: Sequence[Index], value: T
    ) -> tuple[int, bytes]:
        body = _encode(value)
        if not table.sealed:
            return _UNSEALED, body
        sealer = self._sealer()
        term = sealer.term
        self._sealed_by = sealer
        self._sealed[term] = self._sealed.get(term, 0) + 1
        return term, sealer.seal(table.tag, key, term, revision, index, body)

    def _account(self, table: Table[T], key: str, old: _Stored | None, new: _Stored | None) -> None:
        if table.cached:
            self._execute("INSERT INTO changes (tbl, key) VALUES (?, ?)", [table.name, key])
            self.announced = True
        if not table.digest:
            return
        sealer = self._sealer()
        change = self._digests.get(table.digest, 0)
        if new is not None:
            change += sealer.digest(table.tag, key, *new)
        if old is not None:
            if table.sealed:
                sealer.demand(table.tag, old[0])
            change -= sealer.digest(table.tag, key, *old)
        self._digests[table.digest] = change


def _conflict(table: Table[T]) -> KmsError:
    return KmsError(
        ErrorKind.CONFLICT, f"the {table.tag} was changed by another request; read it and try again"
    )


def _range(prefix: str, after: str, limit: int | None) -> tuple[str, list[Any]]:
    # One lower bound: of two, SQLite begins its search at one and reads from there to the other.
    clause, values = ("WHERE key > ?", [after]) if after >= prefix else ("WHERE key >= ?", [prefix])
    if prefix:
        # The successor of all keys with this prefix: last character + 1.
        clause += " AND key < ?"
        values.append(prefix[:-1] + chr(ord(prefix[-1]) + 1))
    clause += " ORDER BY key"
    if limit is not None:
        return clause + " LIMIT ?", [*values, limit]
    return clause, list(values)


def _where(
    table: Table[T], where: Mapping[str, str | int | float | bytes], below: tuple[str, float] | None
) -> tuple[str, list[Any]]:
    columns = {*where, *([below[0]] if below else [])}
    unknown = columns - set(table.index) - {"key"}
    if unknown:
        raise ValueError(f"{table.name} has no index column {sorted(unknown)}")
    terms = [f"{column} = ?" for column in where]
    values: list[Any] = list(where.values())
    if below:
        terms.append(f"{below[0]} < ?")
        values.append(below[1])
    return ("WHERE " + " AND ".join(terms) if terms else ""), values
