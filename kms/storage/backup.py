"""A copy of the database while a server writes to it: one committed state, whatever happens meanwhile.

SQLite's own backup reads the copy through a snapshot. The snapshot is taken while nobody may commit, for the
milliseconds that a caller needs to note how far other files are that must fit it (the audit log).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kms.errors import KmsError
from kms.storage.rows import SqliteReader
from kms.storage.sealing import RowSealer
from kms.storage.sqlite import FILE_NAME, assert_pragmas, connect, create, storage_errors, unavailable
from kms.tables import Reader

Noted = TypeVar("Noted")


def copy(folder: Path, target: Path, note: Callable[[Reader], Noted]) -> Noted:
    """Copy the database in `folder` to the folder `target`; needs no keys. Durable when it returns.

    Args:
        folder: a storage folder, in use or not.
        target: an existing folder without a database.
        note: called while no transaction can commit, with a reader of the state that will be copied (its
            unsealed tables). Must be quick: writers wait.

    Returns:
        What `note` returned.

    Raises:
        KmsError(STORAGE_UNAVAILABLE): the database is missing, busy for too long, or the copy is not sound.
    """
    source, writer = connect(folder / FILE_NAME), connect(folder / FILE_NAME)
    try:
        assert_pragmas(source)
        with storage_errors():
            writer.execute("BEGIN IMMEDIATE")
            try:
                source.execute("BEGIN")
                source.execute(
                    "SELECT count(*) FROM migrations"
                ).fetchone()  # the snapshot is taken at a read
                noted = note(SqliteReader(source, _no_keys))
            finally:
                writer.execute("ROLLBACK")
            _copy(source.conn, target / FILE_NAME)
    finally:
        source.close()
        writer.close()
    return noted


def _copy(source: sqlite3.Connection, path: Path) -> None:
    create(path)
    copied = sqlite3.connect(path, isolation_level=None)
    try:
        source.backup(copied)
        found = copied.execute("PRAGMA integrity_check").fetchone()[0]
        # One file, with nothing left in a write-ahead log beside it.
        copied.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        copied.close()
    if found != "ok":
        raise unavailable(f"the copy of the database is not sound: {found}")
    for one in (path, path.parent):
        fd = os.open(one, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _no_keys() -> RowSealer:
    raise KmsError(unavailable("").kind, "a backup reads no sealed row")
