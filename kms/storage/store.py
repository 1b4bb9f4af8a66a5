"""SqliteStore: one process's view of the database, with a connection per thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from sqlite_utils import Database

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.sensitive import Sensitive
from kms.storage.group import Writers
from kms.storage.migrate import assert_current
from kms.storage.rows import SqliteReader, SqliteTransaction
from kms.storage.sealing import RowSealer
from kms.storage.sqlite import assert_pragmas, connect, storage_errors
from kms.storage.turn import LOCK_NAME, Turn
from kms.tables import CacheListener, T, Table

_monotonic = SystemClock().monotonic

# A process that dies between its commit and its word of it has answered nobody; others see the commit this much
# later at the latest.
_LOOK_SECONDS = 0.1

# How many announcements are kept. A process that sleeps through more of them forgets everything.
_CHANGES_KEPT = 20_000


class _Local(threading.local):
    db: Database | None = None
    version: int = -1
    reader: SqliteReader | None = None


class Announcements(Protocol):
    """How processes tell each other of commits; `kms.shared.Shared` is one."""

    def changes(self) -> int:
        """Another number after each commit that caches must hear of."""
        ...

    def announce_change(self) -> None:
        """A commit is done; called before anybody is answered."""
        ...


class SqliteStore:
    """Implements `kms.tables.Store`. Open one per process, after the fork; share it among threads."""

    def __init__(self, path: Path, announcements: Announcements | None = None) -> None:
        self._path = path
        self._announcements = announcements
        self._heard = -1  # of the announcements; the caches hold at least that
        self._look_at = 0.0  # monotonic
        self._local = _Local()
        self._writing = ContextVar("writing", default=False)  # of one call: a thread may have several
        self._sealer: RowSealer | None = None
        self._listeners: dict[str, list[CacheListener]] = {}
        self._seen = 0
        self._lock = threading.Lock()
        self._open: list[Database] = []
        self._turn = Turn(path.with_name(LOCK_NAME))
        self._writers = Writers(
            self._turn,
            self._connect,
            lambda db: SqliteTransaction(db, self.sealer),
            announcements.announce_change if announcements is not None else lambda: None,
        )

    @classmethod
    def open(cls, path: Path, announcements: Announcements | None = None) -> SqliteStore:
        """Open a database that `prepare` made.

        Args:
            path: the database file.
            announcements: shared with all processes that write to it; without them, `refresh` asks the database
                each time.

        Raises:
            KmsError(STORAGE_UNAVAILABLE): missing, not ours, wrong pragmas, or not up to date.
        """
        store = cls(path, announcements)
        db = store._database()
        assert_pragmas(db)
        assert_current(db)
        store._seen = _newest_change(db)
        return store

    # -- keys ---------------------------------------------------------------------------------

    def unlock(self, sealer: RowSealer) -> None:
        """Allow sealed tables from now on."""
        self._sealer = sealer

    def end_terms(self, below: int) -> None:
        """Refuse rows under keyring terms below this one, also those that caches hold."""
        self.sealer().end(below)
        with self._lock:
            self._clear()

    def lock(self) -> None:
        """Forget the keys and every cached row; sealed tables answer SEALED."""
        self._sealer = None
        with self._lock:
            self._clear()

    @property
    def unlocked(self) -> bool:
        """Whether sealed tables can be read."""
        return self._sealer is not None

    def sealer(self) -> RowSealer:
        """The row sealer. Raises KmsError(SEALED) while locked."""
        if self._sealer is None:
            raise KmsError(ErrorKind.SEALED, "Vault is sealed")
        return self._sealer

    def derived(self, label: str) -> Sensitive:
        """A stable 32-byte key of this instance for one named use; needs the keyring."""
        return self.sealer().derived(label)

    def derived_anew(self, label: str) -> Sensitive:
        """As `derived`, but a new one after a theft of the keyring was mended."""
        return self.sealer().derived_anew(label)

    # -- reading and writing --------------------------------------------------------------------

    def reader(self) -> SqliteReader:
        reader = self._local.reader
        if reader is None:
            reader = self._local.reader = SqliteReader(self._database(), self.sealer)
        return reader

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        if self._writing.get():
            raise RuntimeError("a transaction is already open in this call")
        self._writing.set(True)
        try:
            with self._writers.transaction() as tx:
                yield tx
        finally:
            self._writing.set(False)
        if tx.announced:
            # Our own caches must know before the caller goes on.
            self.refresh()

    @contextmanager
    def snapshot(self) -> Iterator[SqliteReader]:
        """Reads that all see one committed state. Writers go on meanwhile (WAL)."""
        db = self._database()
        with storage_errors():
            db.execute("BEGIN")
        try:
            yield SqliteReader(db, self.sealer)
        finally:
            db.execute("COMMIT")

    def close(self) -> None:
        """Close every connection that this process opened. No thread may be using one."""
        for db in self._open:
            db.close()
        self._open.clear()
        self._local = _Local()
        self._turn.close()

    # -- cache coherence --------------------------------------------------------------------------

    def refresh(self, *, thorough: bool = False) -> int:
        shared = self._announcements
        # Read first: a commit that comes after this is found by the next call.
        heard, now = (shared.changes(), _monotonic()) if shared is not None else (-1, 0.0)
        if shared is None or thorough or heard != self._heard or now >= self._look_at:
            self._look()
            self._heard, self._look_at = heard, now + _LOOK_SECONDS
        return self._seen

    def _look(self) -> None:
        db = self._local.db or self._database()
        version: int = db.conn.execute("PRAGMA data_version").fetchone()[0]
        if version != self._local.version:
            with storage_errors():
                self._catch_up(db)
            # Remembered only now: had reading failed, the next call must try again.
            self._local.version = version

    def watch(self, table: Table[T], listener: CacheListener) -> None:
        self._listeners.setdefault(table.name, []).append(listener)

    def digests(self) -> dict[str, str]:
        """Security domain -> its kept state digest, 64 hex digits."""
        return {domain: f"{total:064x}" for domain, total in sorted(self.reader().digests().items())}

    def scrub(self) -> bool:
        """Move the write-ahead log into the database and empty its file, so that no old page is left there.

        Returns:
            False when readers or writers were in the way; try again later.
        """
        with storage_errors():
            busy = self._database().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy

    def trim_changes(self) -> int:
        """Delete old announcements; returns how many. Called by the jobs process."""
        db = self._database()
        with storage_errors():
            cursor = db.execute(
                "DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - ?", (_CHANGES_KEPT,)
            )
        return int(cursor.rowcount)

    def _catch_up(self, db: Database) -> None:
        with self._lock:
            rows = db.conn.execute(
                "SELECT seq, tbl, key FROM changes WHERE seq > ? ORDER BY seq LIMIT ?",
                (self._seen, _CHANGES_KEPT + 1),
            ).fetchall()
            if not rows:
                return
            # AUTOINCREMENT leaves no holes, so a hole means that announcements were trimmed.
            if rows[0][0] != self._seen + 1 or len(rows) > _CHANGES_KEPT:
                self._clear()
                self._seen = _newest_change(db)
                return
            for seq, name, key in rows:
                for listener in self._listeners.get(name, ()):
                    listener.drop(key)
                self._seen = seq

    def _clear(self) -> None:
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.clear()

    def _database(self) -> Database:
        db = self._local.db
        if db is None:
            db = self._local.db = self._connect()
        return db

    def _connect(self) -> Database:
        db = connect(self._path)
        self._open.append(db)
        return db


def _newest_change(db: Database) -> int:
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()[0])
