"""Numbered, checksummed, forward-only migrations.

Each file `NNNN_name.sql` of the migrations folder runs once, in order, in one transaction, and its
SHA-256 is kept: a server refuses a database whose history is not a prefix of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sqlite_utils import Database

from kms.storage.sqlite import APPLICATION_ID, FILE_NAME, assert_pragmas, connect, create, unavailable

_FOLDER = Path(__file__).parent / "migrations"
_FILE = re.compile(r"(\d{4})_[a-z_]+\.sql\Z")


@dataclass(frozen=True)
class Migration:
    """One file: its number, name, text and checksum."""

    number: int
    name: str
    sql: str
    checksum: str


def migrations() -> list[Migration]:
    """All known migrations in order. Numbers are unique."""
    found = []
    for path in sorted(_FOLDER.iterdir()):
        match = _FILE.match(path.name)
        if match:
            text = path.read_text()
            found.append(Migration(int(match[1]), path.name, text, sha256(text.encode()).hexdigest()))
    if len({m.number for m in found}) != len(found):
        raise RuntimeError("two migrations share a number")
    return found


def prepare(folder: Path) -> Path:
    """Create or upgrade the database in `folder`; safe to repeat. Returns the file's path.

    Run by one process, under the server's lock, before any worker opens the file.

    Raises:
        KmsError(STORAGE_UNAVAILABLE): the database was made by other code than this history.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE_NAME
    create(path)
    db = connect(path)
    try:
        if db.execute("PRAGMA application_id").fetchone()[0] == 0 and not db.table_names():
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.enable_wal()
        assert_pragmas(db)
        db.execute(
            "CREATE TABLE IF NOT EXISTS migrations"
            " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) STRICT"
        )
        for migration in migrations()[len(applied(db)) :]:
            _apply(db, migration)
    finally:
        db.close()
    return path


def applied(db: Database) -> list[Migration]:
    """The migrations that this database has had, checked against the ones we know."""
    rows = list(db.query("SELECT number, name, checksum FROM migrations ORDER BY number"))
    known = migrations()
    if len(rows) > len(known):
        raise unavailable("this database was made by a newer Keystead; upgrade, or restore an older backup")
    for row, migration in zip(rows, known, strict=False):
        if row["number"] != migration.number or row["checksum"] != migration.checksum:
            raise unavailable(
                f"the database's migration {row['number']} ({row['name']}) is not the one we know"
            )
    return known[: len(rows)]


def assert_current(db: Database) -> None:
    """Raise unless every migration has run."""
    if len(applied(db)) != len(migrations()):
        raise unavailable("the database needs an upgrade; start the server with 'keystead serve' to run it")


def _apply(db: Database, migration: Migration) -> None:
    # executescript() would commit first; one transaction per migration needs statements one by one.
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in migration.sql.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(
            "INSERT INTO migrations (number, name, checksum) VALUES (?, ?, ?)",
            (migration.number, migration.name, migration.checksum),
        )
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
