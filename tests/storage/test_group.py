"""Group commit: shared by those who wait, each with its own fate, and none forgotten when one fails."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.storage import SqliteStore
from kms.storage.group import MOST_MEMBERS, Writers
from kms.tables import Transaction
from tests.storage.test_store import _SQL, ITEMS, PLAINS, Row, raw
from tests.support import make_store

QUEUED_SECONDS = 0.05


class Crowd:
    """A store whose first writer waits inside its block until all others stand in the queue."""

    def __init__(self, folder: Path) -> None:
        self.store = make_store(folder)
        raw(folder, _SQL)
        self.writers: Any = self.store._writers
        self.outcomes: dict[str, str] = {}
        self.commits: list[str] = []

    def write(self, name: str, before_end: Callable[[Transaction], None]) -> None:
        try:
            with self.store.transaction() as tx:
                tx.insert(PLAINS, name, Row(name))
                before_end(tx)
            self.outcomes[name] = "ok"
        except KmsError as error:
            self.outcomes[name] = error.kind.value
        except RuntimeError as error:
            self.outcomes[name] = str(error)

    def run(self, blocks: dict[str, Callable[[Transaction], None]]) -> list[str]:
        """Run all blocks in one group, in order of their names; the keys that are stored afterwards."""
        queued = threading.Event()

        def first(tx: Transaction) -> None:
            queued.wait(10)
            names[0][1](tx)

        names = list(blocks.items())
        threads = [threading.Thread(target=self.write, args=(names[0][0], first))]
        threads[0].start()
        while self.writers._group is None:
            pass
        for number, (name, block) in enumerate(names[1:], 1):
            threads.append(threading.Thread(target=self.write, args=(name, block)))
            threads[-1].start()
            while self.writers._waiting < number:
                pass
            time.sleep(QUEUED_SECONDS)  # it is counted a moment before it stands in the queue
        queued.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), f"a writer was forgotten: {self.outcomes}"
        return self.store.reader().keys(PLAINS)


@pytest.fixture(name="crowd")
def _crowd(tmp_path: Path) -> Iterator[Crowd]:
    crowd = Crowd(tmp_path)
    yield crowd
    crowd.store.close()


def fine(_tx: Transaction) -> None:
    return None


def wrong(_tx: Transaction) -> None:
    raise RuntimeError("mine alone")


_FATES = {
    "nobody fails": ([fine, fine, fine], ["ok", "ok", "ok"]),
    "the first fails": ([wrong, fine, fine], ["mine alone", "ok", "ok"]),
    "one in the middle fails": ([fine, wrong, fine], ["ok", "mine alone", "ok"]),
    "the last fails": ([fine, fine, wrong], ["ok", "ok", "mine alone"]),
    "all fail": ([wrong, wrong, wrong], ["mine alone"] * 3),
}


@pytest.mark.parametrize(("blocks", "outcomes"), _FATES.values(), ids=_FATES.keys())
def test_each_member_has_its_own_fate(
    crowd: Crowd, blocks: list[Callable[[Transaction], None]], outcomes: list[str]
) -> None:
    stored = crowd.run({f"k{number}": block for number, block in enumerate(blocks)})
    assert [crowd.outcomes[f"k{number}"] for number in range(3)] == outcomes
    assert stored == [f"k{number}" for number, outcome in enumerate(outcomes) if outcome == "ok"]
    with crowd.store.transaction() as tx:
        tx.insert(PLAINS, "after", Row("after"))


def test_those_who_wait_share_one_commit(crowd: Crowd) -> None:
    statements: list[str] = []
    with crowd.store.transaction():
        crowd.writers._db().conn.set_trace_callback(statements.append)
    crowd.run({f"k{number}": fine for number in range(8)})
    assert statements.count("COMMIT") == 2, "the empty one above, and one for eight writers"


def test_a_group_is_bounded(crowd: Crowd) -> None:
    stored = crowd.run({f"k{number:02d}": fine for number in range(2 * MOST_MEMBERS)})
    assert len(stored) == 2 * MOST_MEMBERS
    assert set(crowd.outcomes.values()) == {"ok"}


def test_a_commit_that_fails_fails_for_all_and_is_told_to_all(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A connection whose next COMMIT finds the disk full."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, sql: str, *values: Any) -> Any:
            if sql == "COMMIT":
                raise sqlite3.OperationalError("database or disk is full")
            return self._connection.execute(sql, *values)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    with crowd.store.transaction():
        pass
    database = crowd.writers._db()
    monkeypatch.setattr(database, "conn", Full(database.conn))
    assert crowd.run({"a": fine, "b": fine, "c": fine}) == []
    assert set(crowd.outcomes.values()) == {ErrorKind.STORAGE_UNAVAILABLE.value}
    monkeypatch.undo()
    assert crowd.run({"d": fine, "e": fine}) == ["d", "e"]


def test_a_group_that_cannot_begin_leaves_the_turn_to_others(tmp_path: Path) -> None:
    store: SqliteStore = make_store(tmp_path)
    raw(tmp_path, _SQL)
    writers: Writers = store._writers
    other = sqlite3.connect(tmp_path / "keystead.db", isolation_level=None)
    with store.transaction():
        writers._db().conn.execute("PRAGMA busy_timeout = 10")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(KmsError) as error, store.transaction():
        pass
    assert error.value.kind is ErrorKind.STORAGE_UNAVAILABLE
    other.execute("ROLLBACK")
    with store.transaction() as tx:
        tx.insert(PLAINS, "a", Row("a"))
    other.close()
    store.close()


def test_a_term_that_ends_within_a_group_is_used_by_nobody_behind_it(crowd: Crowd) -> None:
    def seal_and_take_back(tx: Transaction) -> None:
        tx.delete(ITEMS, tx.insert(ITEMS, "short", Row("n")))

    def end(tx: Transaction) -> None:
        tx.end_terms(crowd.store.sealer().term + 1)

    def seal(tx: Transaction) -> None:
        tx.insert(ITEMS, "late", Row("n"))

    keys = crowd.run({"a": seal_and_take_back, "b": seal_and_take_back, "c": end, "d": seal, "e": fine})
    assert crowd.outcomes == {"a": "ok", "b": "ok", "c": "ok", "d": "conflict", "e": "ok"}
    assert keys == ["a", "b", "c", "e"]
    assert crowd.store.reader().keys(ITEMS) == []
