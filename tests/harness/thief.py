"""Who stole a storage keyring and can write the database: forges rows as only the keyring's owner should."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from kms.identity.keys import RowKeys, new_accessor
from kms.identity.model import NEVER, AccessorRow, Token
from kms.identity.store import ACCESSORS, TOKENS
from kms.sensitive import Sensitive
from kms.storage import RowSealer
from kms.tables import Table
from tests.harness.dev import DevServer

_THEFT: Final = """
import json, sys
from pathlib import Path
from kms.app import App
from kms.clock import SystemClock
from kms.config import load
from kms.keys.keyring import open_terms
from kms.sensitive import ACCESS
from kms.shared import Shared

app = App(load(Path(sys.argv[1]) / "keystead.toml"), Shared(), SystemClock(), "worker")
app.state.demand_open()
terms = open_terms(app.token.get(), app.instance_id, app.store.reader())
print(json.dumps([app.instance_id, {term: key.reveal(ACCESS).hex() for term, key in terms.items()}]))
app.close()
"""
_MOD: Final = 1 << 256


Loot = tuple[str, dict[str, str]]
"""Instance id, and term -> key in hex."""


def steal(server: DevServer) -> Thief:
    """The keyring of a server as it is now, by way of its HSM and PIN."""
    command = [sys.executable, "-c", _THEFT, str(server.data)]
    return thief(server.data, json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def thief(data: Path, loot: Loot) -> Thief:
    """One who has this loot and writes to the database in this data folder."""
    return Thief(data / "storage" / "keystead.db", loot)


class Thief:
    """Works on the database file alone, beside the running server."""

    def __init__(self, path: Path, loot: Loot) -> None:
        self.loot = loot
        self.written: list[str] = []
        self._path = path
        instance, keys = loot
        self.sealer = RowSealer(
            instance, {int(term): Sensitive(bytes.fromhex(key)) for term, key in keys.items()}
        )
        self._keys = RowKeys(lambda: self.sealer.derived("token-mac"))

    def root_token(self, token: str) -> None:
        """Put a root token of this string into the database, with an accessor, announced and accounted for."""
        key, accessor = self._keys.token(token), new_accessor()
        forged = Token(
            accessor=accessor,
            parent="",
            expires_at=NEVER,
            policies=("root",),
            path="auth/token/root",
            display_name="root",
            created=0.0,
        )
        self.insert(TOKENS, key, forged)
        self.insert(ACCESSORS, self._keys.accessor(accessor), AccessorRow(accessor, key))

    def insert(self, table: Table[Any], key: str, value: msgspec.Struct) -> None:
        """Add a row, or put it in the place of the one that is there, under the newest term that was stolen."""
        self.written.append(key)
        term, index = self.sealer.term, [getattr(value, column) for column in table.index]
        with closing(sqlite3.connect(self._path, timeout=20)) as db, db:
            old = db.execute(f"SELECT revision FROM {table.name} WHERE key = ?", [key]).fetchone()  # noqa: S608  (declared name)
            revision = old[0] if old else 1
            sealed = self.sealer.seal(table.tag, key, term, revision, index, msgspec.msgpack.encode(value))
            names = ", ".join(("key", "revision", "term", "body", *table.index))
            marks = ", ".join("?" * (4 + len(index)))
            db.execute(
                f"INSERT OR REPLACE INTO {table.name} ({names}) VALUES ({marks})",  # noqa: S608  (declared names)
                [key, revision, term, sealed, *index],
            )
            db.execute("INSERT INTO changes (tbl, key) VALUES (?, ?)", [table.name, key])
            if table.digest and not old:
                self._account(db, table.digest, self.sealer.digest(table.tag, key, term, revision, sealed))

    def _account(self, db: sqlite3.Connection, domain: str, change: int) -> None:
        where = [domain, "0"]
        total = db.execute("SELECT sum FROM state_digests WHERE domain = ? AND writer = ?", where).fetchone()
        new = (int.from_bytes(total[0], "big") + change) % _MOD
        db.execute(
            "UPDATE state_digests SET sum = ? WHERE domain = ? AND writer = ?",
            [new.to_bytes(32, "big"), *where],
        )
