"""Opening SQLite the one right way, and refusing when it is not.

Facts behind this file: the stdlib opens with synchronous=FULL but foreign_keys off; a deferred BEGIN
can fail on upgrade, so write transactions are BEGIN IMMEDIATE; `mode=rw` never recreates a missing
file as an empty one.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from kms.errors import ErrorKind, KmsError

FILE_NAME = "keystead.db"
APPLICATION_ID = 0x4B455953  # "KEYS"
_BUSY_MS = 5_000


def create(path: Path) -> None:
    """Make the file with mode 0600 before SQLite sees it. An existing file is left alone."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.close(fd)


def connect(path: Path) -> Database:
    """A connection with the pragmas that the promises of this package rest on.

    Raises:
        KmsError(STORAGE_UNAVAILABLE): the file is missing, not ours, or readable by others.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        raise unavailable(
            f"the database {path.name} is missing; restore it, or run 'keystead init'"
        ) from None
    if mode & 0o077:
        raise unavailable(f"the database {path.name} may be read by others; run: chmod 600 {path.name}")
    connection = sqlite3.connect(
        f"file:{path}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_MS / 1000,
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    # Pages that change with every commit are moved into the database once for many of them. 16 MiB are read at start.
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    # What is deleted or replaced is overwritten: a destroyed key's blob must not stay in a free page.
    connection.execute("PRAGMA secure_delete = ON")
    return Database(connection)


def assert_pragmas(db: Database) -> None:
    """Refuse a database that would not keep its promises (T-11).

    Raises:
        KmsError(STORAGE_UNAVAILABLE): naming the pragma, its value and the one needed.
    """
    wanted = {
        "application_id": APPLICATION_ID,
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
    }
    for name, value in wanted.items():
        found = db.execute(f"PRAGMA {name}").fetchone()[0]
        if found != value:
            raise unavailable(f"SQLite pragma {name} is {found}, but must be {value}")


def unavailable(detail: str) -> KmsError:
    """The database cannot be used now."""
    return KmsError(ErrorKind.STORAGE_UNAVAILABLE, detail)


def execute(connection: sqlite3.Connection, sql: str) -> None:
    """One statement without values; its errors as `storage_errors` has them. For what every request does."""
    try:
        connection.execute(sql)
    except sqlite3.OperationalError as error:
        raise _no_answer(error) from error


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn the driver's operational errors (locked, full, I/O) into KmsError(STORAGE_UNAVAILABLE)."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _no_answer(error) from error


def _no_answer(error: sqlite3.OperationalError) -> KmsError:
    return unavailable(f"the database did not answer: {error}; free space or stop what holds it")
