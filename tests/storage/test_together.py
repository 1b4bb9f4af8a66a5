"""Calls that one thread takes together: one commit for those that wait, each with its own fate, and nobody waits for
what is slow.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.storage import SqliteStore
from kms.storage.turn import LOCK_NAME
from kms.tables import Transaction
from kms.together import MOST, Gathering, aside, gathering
from tests.storage.test_store import _SQL, PLAINS, Row, raw
from tests.support import make_store

Call = Callable[[], object]


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = make_store(tmp_path)
    raw(tmp_path, _SQL)
    yield store
    store.close()


class Calls:
    """Begins calls on an event loop and gathers what becomes of them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.gathering = Gathering(self.loop, 2)
        self.at_once: list[str] = []

    def begin(self, call: Call) -> asyncio.Future[str]:
        """What becomes of it: "ok", the kind of a refusal, or the text of another error."""
        future: asyncio.Future[str] = self.loop.create_future()

        def contained() -> str:
            try:
                call()
            except KmsError as error:
                return error.kind.value
            except RuntimeError as error:
                return str(error)
            return "ok"

        ended = self.gathering.start(contained, future.set_result)
        if ended is not None:
            self.at_once.append(ended)
            future.set_result(ended)
        return future

    async def all(self, calls: list[Call]) -> list[str]:
        return list(await asyncio.gather(*[self.begin(call) for call in calls]))


@asynccontextmanager
async def gathered() -> AsyncIterator[Calls]:
    calls = Calls()
    yield calls
    calls.gathering.close()


def run(scene: Callable[[Calls], Awaitable[None]]) -> None:
    """Play a scene on an event loop of its own."""

    async def play() -> None:
        async with gathered() as calls:
            await asyncio.wait_for(scene(calls), 30)

    asyncio.run(play())


def put(store: SqliteStore, key: str, then: Callable[[Transaction], None] = lambda _tx: None) -> Call:
    def call() -> None:
        with store.transaction() as tx:
            tx.insert(PLAINS, key, Row(key))
            then(tx)
        # Whoever goes on after the block relies on it being on disk.
        assert store.reader().get(PLAINS, key) is not None

    return call


def wrong(_tx: Transaction) -> None:
    raise RuntimeError("mine alone")


def traced(store: SqliteStore) -> list[str]:
    statements: list[str] = []
    with store.transaction():
        writers: Any = store._writers
        writers._db().conn.set_trace_callback(statements.append)
    statements.clear()
    return statements


def test_calls_that_wait_share_one_commit(store: SqliteStore) -> None:
    statements = traced(store)

    async def scene(calls: Calls) -> None:
        assert await calls.all([put(store, f"k{number}") for number in range(8)]) == ["ok"] * 8

    run(scene)
    assert statements.count("COMMIT") == 1
    assert len(store.reader().keys(PLAINS)) == 8


def test_a_group_is_bounded(store: SqliteStore) -> None:
    statements = traced(store)

    async def scene(calls: Calls) -> None:
        assert set(await calls.all([put(store, f"k{number:03d}") for number in range(2 * MOST + 1)])) == {
            "ok"
        }

    run(scene)
    assert statements.count("COMMIT") == 3
    assert len(store.reader().keys(PLAINS)) == 2 * MOST + 1


def test_what_is_slow_in_a_block_is_done_there(store: SqliteStore) -> None:
    """A group is committed when its blocks have run, so none may be left half way: its first half would be committed."""
    opened = threading.Event()

    def slow(tx: Transaction) -> None:
        aside(lambda: opened.wait(0.1))
        tx.insert(PLAINS, "second half", Row("second half"))

    async def scene(calls: Calls) -> None:
        told = await calls.all([put(store, "first half", slow), put(store, "other")])
        assert told == ["ok", "ok"]

        def fails(tx: Transaction) -> None:
            slow_and_wrong = aside(lambda: opened.wait(0.1))
            assert not slow_and_wrong
            wrong(tx)

        assert await calls.all([put(store, "never", fails), put(store, "third")]) == ["mine alone", "ok"]

    run(scene)
    assert sorted(store.reader().keys(PLAINS)) == ["first half", "other", "second half", "third"]


@pytest.mark.parametrize("bad", [{0}, {1}, {3}, {0, 1, 2, 3}], ids=["first", "middle", "last", "all"])
def test_each_call_has_its_own_fate(store: SqliteStore, bad: set[int]) -> None:
    async def scene(calls: Calls) -> None:
        told = await calls.all(
            [
                put(store, f"k{number}", wrong) if number in bad else put(store, f"k{number}")
                for number in range(4)
            ]
        )
        assert told == ["mine alone" if number in bad else "ok" for number in range(4)]
        assert await calls.begin(put(store, "later")) == "ok"

    run(scene)
    assert store.reader().keys(PLAINS) == [
        *(f"k{number}" for number in range(4) if number not in bad),
        "later",
    ]


def test_a_call_may_have_several_transactions_and_no_two_at_once(store: SqliteStore) -> None:
    def twice() -> None:
        put(store, "a1")()
        put(store, "a2")()

    def nested(_tx: Transaction) -> None:
        with store.transaction():
            raise AssertionError("a transaction inside a transaction")

    async def scene(calls: Calls) -> None:
        told = await calls.all([twice, put(store, "b", nested), put(store, "c")])
        assert told == ["ok", "a transaction is already open in this call", "ok"]

    run(scene)
    assert store.reader().keys(PLAINS) == ["a1", "a2", "c"]


def test_a_call_that_waits_for_nothing_is_answered_at_once(store: SqliteStore) -> None:
    async def scene(calls: Calls) -> None:
        waiting = calls.begin(put(store, "a"))
        calls.begin(lambda: store.reader().keys(PLAINS))
        assert calls.at_once == ["ok"]
        assert not waiting.done()
        assert await waiting == "ok"

    run(scene)


class Failing:
    """A connection on which one statement fails as on a full disk."""

    def __init__(self, connection: sqlite3.Connection, statement: str, *, rolled_back: bool = False) -> None:
        self._connection = connection
        self._statement = statement
        self._rolled_back = rolled_back

    def execute(self, sql: str, *values: Any) -> Any:
        if sql.startswith(self._statement):
            if self._rolled_back:
                self._connection.rollback()
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize(
    ("statement", "rolled_back"),
    [("BEGIN", False), ("COMMIT", False), ("INSERT", True)],
    ids=["begin", "commit", "insert"],
)
def test_what_fails_for_all_is_told_to_all(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, statement: str, rolled_back: bool
) -> None:
    with store.transaction():
        pass
    writers: Any = store._writers
    database = writers._db()

    async def scene(calls: Calls) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(database, "conn", Failing(database.conn, statement, rolled_back=rolled_back))
            told = await calls.all([put(store, key) for key in "abc"])
        assert set(told) == {ErrorKind.STORAGE_UNAVAILABLE.value}
        assert await calls.all([put(store, key) for key in "de"]) == ["ok", "ok"]

    run(scene)
    assert store.reader().keys(PLAINS) == ["d", "e"]


def test_a_defect_in_a_commit_keeps_nobody_waiting_for_ever(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    async def scene(calls: Calls) -> None:
        calls.loop.set_exception_handler(lambda *_: None)
        with monkeypatch.context() as patched:
            patched.setattr(store._writers, "_start", broken)
            assert await calls.all([put(store, "a"), put(store, "b")]) == ["a defect"] * 2
        assert await calls.begin(put(store, "c")) == "ok"

    run(scene)
    assert store.reader().keys(PLAINS) == ["c"]


def test_the_loop_goes_on_while_another_process_writes(store: SqliteStore, tmp_path: Path) -> None:
    found = next(tmp_path.rglob(LOCK_NAME))

    async def scene(calls: Calls) -> None:
        with found.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            waiting = [calls.begin(put(store, "a")), calls.begin(put(store, "b"))]
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not any(one.done() for one in waiting)
            late = calls.begin(put(store, "c"))
            fcntl.flock(other, fcntl.LOCK_UN)
        assert await asyncio.gather(*waiting, late) == ["ok"] * 3

    run(scene)
    assert store.reader().keys(PLAINS) == ["a", "b", "c"]


def test_threads_and_the_loop_write_side_by_side(store: SqliteStore) -> None:
    def thread(number: int) -> None:
        for turn in range(20):
            put(store, f"t{number}-{turn}")()

    async def scene(calls: Calls) -> None:
        threads = [threading.Thread(target=thread, args=(number,)) for number in range(3)]
        for one in threads:
            one.start()
        for turn in range(20):
            assert set(await calls.all([put(store, f"g{number}-{turn}") for number in range(5)])) == {"ok"}
        for one in threads:
            await asyncio.to_thread(one.join, 20)

    run(scene)
    assert len(store.reader().keys(PLAINS)) == 3 * 20 + 5 * 20


def test_what_is_slow_keeps_nobody_else_waiting(store: SqliteStore) -> None:
    go_on = threading.Event()

    def slow() -> None:
        assert gathering() is not None
        assert aside(lambda: (go_on.wait(20), gathering())) == (True, None)
        put(store, "slow")()

    def failing() -> None:
        aside(lambda: wrong(None))  # type: ignore[arg-type]

    async def scene(calls: Calls) -> None:
        waiting = calls.begin(slow)
        assert await calls.all([put(store, "quick"), failing]) == ["ok", "mine alone"]
        assert not waiting.done()
        go_on.set()
        assert await waiting == "ok"

    run(scene)
    assert store.reader().keys(PLAINS) == ["quick", "slow"]


def test_outside_of_a_call_nothing_is_gathered(store: SqliteStore) -> None:
    async def scene(_calls: Calls) -> None:
        assert gathering() is None
        put(store, "inline")()  # what runs on the loop itself waits there, as on any thread
        assert aside(threading.get_ident) == threading.get_ident()

    run(scene)


def test_closing_waits_for_the_calls_under_way(store: SqliteStore) -> None:
    ended: list[str] = []

    async def scene() -> None:
        calls = Gathering(asyncio.get_running_loop(), 1)

        def call(key: str) -> None:
            put(store, key)()
            aside(lambda: ended.append(key))

        for key in "abc":
            assert calls.start(lambda key=key: call(key), lambda _: None) is None  # type: ignore[misc]
        calls.close()
        assert sorted(ended) == ["a", "b", "c"]

    asyncio.run(scene())
    assert store.reader().keys(PLAINS) == ["a", "b", "c"]
