"""The database port over real SQLite files: sealing, compare-and-swap, announcements, digests."""

from __future__ import annotations

import secrets
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kms.errors import ErrorKind, KmsError
from kms.sensitive import Sensitive
from kms.storage import FILE_NAME, RowSealer, SqliteStore, prepare, sweep
from kms.storage.rows import SqliteTransaction
from kms.storage.sealing import ALLOWANCE
from kms.tables import Cache, Table
from tests.support import make_sealer, make_store

_SQL = """
CREATE TABLE items (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL,
  grp TEXT NOT NULL, expires REAL NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE plain_items (key TEXT PRIMARY KEY, revision INTEGER NOT NULL, term INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
"""


class Row(msgspec.Struct, frozen=True):
    name: str
    grp: str = ""
    expires: float = 0.0


ITEMS = Table("item", "items", Row, index=("grp", "expires"), cached=True, digest="items")
PLAINS = Table("plain", "plain_items", Row, sealed=False)


@pytest.fixture(name="sealer")
def _sealer() -> RowSealer:
    return make_sealer()


@pytest.fixture(name="store")
def _store(tmp_path: Path, sealer: RowSealer) -> Iterator[SqliteStore]:
    store = make_store(tmp_path, sealer)
    raw(tmp_path, _SQL)
    yield store
    store.close()


def raw(folder: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """Act on the file behind Keystead's back."""
    connection = sqlite3.connect(folder / FILE_NAME)
    try:
        if values:
            rows = connection.execute(sql, values).fetchall()
        else:
            connection.executescript(sql)
            rows = []
        connection.commit()
        return rows
    finally:
        connection.close()


def put(store: SqliteStore, key: str, name: str = "n", **index: object) -> None:
    with store.transaction() as tx:
        tx.insert(ITEMS, key, Row(name, **index))  # type: ignore[arg-type]


def kind(error: pytest.ExceptionInfo[KmsError]) -> ErrorKind:
    return error.value.kind


def test_a_row_comes_back_and_its_bytes_are_not_in_the_file(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "a/1", "canary-of-this-test", grp="g", expires=5.0)
    row = store.reader().get(ITEMS, "a/1")
    assert row is not None
    assert row.value == Row("canary-of-this-test", "g", 5.0)
    for path in tmp_path.iterdir():
        assert b"canary-of-this-test" not in path.read_bytes()


_TAMPER = {
    "flip a byte": "UPDATE items SET body = CAST(substr(body, 1, 20) || x'0000' || substr(body, 22) AS BLOB) WHERE key = ?",
    "move to another key": "UPDATE items SET key = key || 'x' WHERE key = ?",
    "other index column": "UPDATE items SET grp = 'other' WHERE key = ?",
    "other revision": "UPDATE items SET revision = 7 WHERE key = ?",
    "other term": "UPDATE items SET term = 9 WHERE key = ?",
    "swap two bodies": "UPDATE items SET body = (SELECT body FROM items WHERE key = 'b') WHERE key = ?",
    "empty body": "UPDATE items SET body = x'' WHERE key = ?",
}


@pytest.mark.parametrize("sql", _TAMPER.values(), ids=_TAMPER.keys())
def test_a_changed_row_is_refused(store: SqliteStore, tmp_path: Path, sql: str) -> None:
    put(store, "a", grp="g")
    put(store, "b", grp="g")
    raw(tmp_path, sql, "a")
    with pytest.raises(KmsError) as error:
        store.reader().scan(ITEMS, "a")
    assert kind(error) is ErrorKind.INTEGRITY
    assert any("item" in finding.detail for finding in sweep(store, [ITEMS]))


def test_another_instance_cannot_read_the_row(store: SqliteStore, tmp_path: Path, sealer: RowSealer) -> None:
    put(store, "a")
    other = RowSealer.__new__(RowSealer)
    other.__dict__.update(sealer.__dict__, _instance="another", _places={})
    stranger = make_store(tmp_path, other)
    with pytest.raises(KmsError) as error:
        stranger.reader().get(ITEMS, "a")
    assert kind(error) is ErrorKind.INTEGRITY
    stranger.close()


def test_the_sweep_names_an_old_row_put_back_and_a_deleted_row(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "a", "old")
    before = raw(tmp_path, "SELECT revision, term, body FROM items WHERE key = ?", "a")[0]
    with store.transaction() as tx:
        row = tx.get(ITEMS, "a")
        assert row is not None
        tx.replace(ITEMS, row, Row("new"))
    assert sweep(store, [ITEMS, PLAINS]) == []
    raw(tmp_path, "UPDATE items SET revision = ?, term = ?, body = ? WHERE key = ?", *before, "a")
    restored = store.reader().get(ITEMS, "a")
    assert restored is not None
    assert restored.value.name == "old", "sealing alone cannot see this"
    assert [f.domain for f in sweep(store, [ITEMS])] == ["items"]
    raw(tmp_path, "DELETE FROM items WHERE key = ?", "a")
    assert [f.domain for f in sweep(store, [ITEMS])] == ["items"]


def test_compare_and_swap(store: SqliteStore) -> None:
    put(store, "a")
    row = store.reader().get(ITEMS, "a")
    assert row is not None
    with store.transaction() as tx:
        tx.replace(ITEMS, row, Row("second"))
    for attempt in ("replace", "delete"):
        with pytest.raises(KmsError) as error, store.transaction() as tx:
            if attempt == "replace":
                tx.replace(ITEMS, row, Row("third"))
            else:
                tx.delete(ITEMS, row)
        assert kind(error) is ErrorKind.CONFLICT
    with pytest.raises(KmsError) as error:
        put(store, "a")
    assert kind(error) is ErrorKind.CONFLICT
    now = store.reader().get(ITEMS, "a")
    assert now is not None
    assert (now.revision, now.value.name) == (2, "second")


def test_a_block_that_raises_changes_nothing(store: SqliteStore) -> None:
    with pytest.raises(RuntimeError, match="stop"), store.transaction() as tx:
        tx.insert(ITEMS, "a", Row("x"))
        raise RuntimeError("stop")
    assert store.reader().get(ITEMS, "a") is None
    assert sweep(store, [ITEMS]) == []


def test_one_use_among_many_threads(store: SqliteStore) -> None:
    put(store, "once")
    row = store.reader().get(ITEMS, "once")
    assert row is not None
    wins: list[int] = []
    barrier = threading.Barrier(16)

    def use() -> None:
        barrier.wait()
        try:
            with store.transaction() as tx:
                tx.delete(ITEMS, row)
            wins.append(1)
        except KmsError as error:
            assert error.kind is ErrorKind.CONFLICT  # noqa: PT017  (the thread's own check)

    threads = [threading.Thread(target=use) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1


def test_keys_scan_find_and_count(store: SqliteStore) -> None:
    for number in range(5):
        put(store, f"m/{number}", grp="even" if number % 2 == 0 else "odd", expires=float(number))
    put(store, "n/0")
    reader = store.reader()
    assert reader.keys(ITEMS, "m/") == [f"m/{n}" for n in range(5)]
    assert reader.keys(ITEMS, "m/", after="m/1", limit=2) == ["m/2", "m/3"]
    assert [row.key for row in reader.scan(ITEMS, "m/", limit=1)] == ["m/0"]
    assert [row.key for row in reader.find(ITEMS, {"grp": "even"}, below=("expires", 3.0))] == ["m/0", "m/2"]
    assert reader.count(ITEMS, {"grp": "odd"}) == 2
    with pytest.raises(ValueError, match="no index column"):
        reader.find(ITEMS, {"name": "n"})


def test_a_cache_forgets_what_another_process_changed(
    store: SqliteStore, tmp_path: Path, sealer: RowSealer
) -> None:
    other = make_store(tmp_path, sealer)
    cache = Cache(store, ITEMS, size=2)
    put(other, "a", "one")
    store.refresh()
    first = cache.get("a")
    assert first is not None
    with other.transaction() as tx:
        tx.replace(ITEMS, first, Row("two"))
    generation = store.refresh()
    second = cache.get("a")
    assert second is not None
    assert second.value.name == "two"
    with other.transaction() as tx:
        tx.delete(ITEMS, second)
    assert store.refresh() == generation + 1
    assert cache.get("a") is None
    other.close()


def test_a_cache_forgets_what_this_process_changed(store: SqliteStore) -> None:
    cache = Cache(store, ITEMS)
    put(store, "a", "one")
    row = cache.get("a")
    assert row is not None
    with store.transaction() as tx:
        tx.replace(ITEMS, row, Row("two"))
    again = cache.get("a")
    assert again is not None
    assert again.value.name == "two"


def test_a_process_that_slept_through_too_many_changes_forgets_everything(
    store: SqliteStore, tmp_path: Path, sealer: RowSealer
) -> None:
    put(store, "a", "one")
    cache = Cache(store, ITEMS)
    row = cache.get("a")
    assert row is not None
    other = make_store(tmp_path, sealer)
    with other.transaction() as tx:
        tx.replace(ITEMS, row, Row("two"))
    put(other, "b")
    raw(tmp_path, "DELETE FROM changes WHERE seq < (SELECT max(seq) FROM changes)")
    store.refresh()
    again = cache.get("a")
    assert again is not None
    assert again.value.name == "two"
    other.close()


def test_locked_means_sealed(store: SqliteStore) -> None:
    put(store, "a")
    store.lock()
    with pytest.raises(KmsError) as error:
        store.reader().get(ITEMS, "a")
    assert kind(error) is ErrorKind.SEALED
    with store.transaction() as tx:
        tx.insert(PLAINS, "p", Row("readable"))
    plain = store.reader().get(PLAINS, "p")
    assert plain is not None


_BROKEN = {
    "missing": "rm",
    "readable by others": "chmod",
    "not our application": "PRAGMA application_id = 1",
    "journal mode": "PRAGMA journal_mode = DELETE",
    "unknown migration": "UPDATE migrations SET checksum = 'x' WHERE number = 1",
    "made by newer code": "INSERT INTO migrations VALUES (9999, 'later', 'x')",
}


@pytest.mark.parametrize("how", _BROKEN.values(), ids=_BROKEN.keys())
def test_open_refuses_a_database_that_is_not_as_it_must_be(tmp_path: Path, how: str) -> None:
    path = prepare(tmp_path)
    if how == "rm":
        path.unlink()
    elif how == "chmod":
        path.chmod(0o644)
    else:
        raw(tmp_path, how)
    with pytest.raises(KmsError) as error:
        SqliteStore.open(path)
    assert kind(error) is ErrorKind.STORAGE_UNAVAILABLE
    if how == "rm":
        assert not path.exists(), "a missing database is never recreated empty"


def test_a_commit_survives_kill_9(tmp_path: Path) -> None:
    prepare(tmp_path)
    raw(tmp_path, _SQL)
    program = (
        "import os, signal, sys; from pathlib import Path; from tests.storage.test_store import *\n"
        "store = SqliteStore.open(Path(sys.argv[1]) / FILE_NAME)\n"
        "with store.transaction() as tx: tx.insert(PLAINS, 'kept', Row('x'))\n"
        "print('committed', flush=True)\n"
        "with store.transaction() as tx:\n"
        "    tx.insert(PLAINS, 'lost', Row('x')); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path.cwd(),
    )
    assert (done.returncode, done.stdout) == (-9, "committed\n"), done.stderr
    store = SqliteStore.open(tmp_path / FILE_NAME)
    assert store.reader().keys(PLAINS) == ["kept"]
    store.close()


def test_the_sweep_sees_one_state_while_others_write(store: SqliteStore) -> None:
    for number in range(200):
        put(store, f"k{number}")
    ending = threading.Event()

    def write() -> None:
        number = 0
        while not ending.is_set():
            number += 1
            put(store, f"w{number}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert [sweep(store, [ITEMS]) for _ in range(20)] == [[]] * 20
    finally:
        ending.set()
        writer.join()


def make_sealer_like(sealer: RowSealer) -> RowSealer:
    """The sealer of another process of the same instance."""
    other = RowSealer.__new__(RowSealer)
    other.__dict__.update(sealer.__dict__, _allowance={})
    return other


def _counted(store: SqliteStore) -> int:
    return store.reader().sealed_under(1)


def test_uses_of_a_term_are_counted_high_and_never_low(
    store: SqliteStore, tmp_path: Path, sealer: RowSealer
) -> None:
    put(store, "first")
    assert _counted(store) == ALLOWANCE
    for number in range(ALLOWANCE - 2):
        with pytest.raises(RuntimeError), store.transaction() as tx:
            tx.insert(ITEMS, f"k{number}", Row("x"))
            raise RuntimeError
    assert _counted(store) == ALLOWANCE
    put(store, "last of the allowance")
    assert _counted(store) == ALLOWANCE
    put(store, "one more")
    assert _counted(store) == 2 * ALLOWANCE
    other = make_store(tmp_path, make_sealer_like(sealer))
    put(other, "another process")
    assert _counted(other) == 3 * ALLOWANCE
    other.close()


def test_a_draw_that_was_rolled_back_is_not_used(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = SqliteTransaction.finish

    def failing(tx: SqliteTransaction) -> None:
        finish(tx)
        raise RuntimeError("the commit failed")

    monkeypatch.setattr(SqliteTransaction, "finish", failing)
    with pytest.raises(RuntimeError):
        put(store, "a")
    monkeypatch.undo()
    assert _counted(store) == 0
    put(store, "b")
    assert _counted(store) == ALLOWANCE


def test_many_writers_of_many_processes_all_get_through(tmp_path: Path, sealer: RowSealer) -> None:
    stores = [make_store(tmp_path, sealer) for _ in range(3)]
    raw(tmp_path, _SQL)

    def write(store: SqliteStore, name: str) -> None:
        for number in range(25):
            put(store, f"{name}/{number}")

    threads = [threading.Thread(target=write, args=(store, f"{n}")) for n, store in enumerate(stores * 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        assert store.reader().count(ITEMS, {}) == 25 * len(threads)
        store.close()


def test_nothing_of_a_deleted_row_is_left_in_any_file_after_a_scrub(
    store: SqliteStore, tmp_path: Path
) -> None:
    secret = "canary-" + "x" * 3000
    for number in range(5):
        with store.transaction() as tx:
            tx.insert(PLAINS, f"k{number}", Row(secret))
    found = [path.name for path in tmp_path.iterdir() if b"canary-xxx" in path.read_bytes()]
    assert found, "the test looks at the right bytes"
    for number in range(5):
        with store.transaction() as tx:
            row = tx.get(PLAINS, f"k{number}")
            assert row is not None
            tx.delete(PLAINS, row)
    assert store.scrub()
    assert [path.name for path in tmp_path.iterdir() if b"canary-xxx" in path.read_bytes()] == []


def test_a_process_that_has_not_heard_of_an_ended_term_writes_nothing_under_it(tmp_path: Path) -> None:
    keys = {term: Sensitive(secrets.token_bytes(32)) for term in (0, 1)}
    late = make_store(tmp_path, RowSealer("i", keys))
    raw(tmp_path, _SQL)
    put(late, "a")
    store = SqliteStore.open(tmp_path / FILE_NAME)
    store.unlock(RowSealer("i", {**keys, 2: Sensitive(secrets.token_bytes(64))}))
    with (
        pytest.raises(KmsError, match="rows of items are still under older terms"),
        store.transaction() as tx,
    ):
        tx.end_terms(2)
    with store.transaction() as tx:
        row = tx.get(ITEMS, "a")
        assert row is not None
        tx.replace(ITEMS, row, row.value)
    with store.transaction() as tx:
        tx.end_terms(2)
    store.end_terms(2)
    with pytest.raises(KmsError, match="renewed at the same time"):
        put(late, "b")
    assert sweep(store, [ITEMS]) == []
    put(store, "c")
    late.close()
    store.close()


def test_many_plain_rows_come_and_go_in_one_statement_each(store: SqliteStore) -> None:
    with store.transaction() as tx:
        tx.insert_all(PLAINS, {f"k{number}": Row(f"n{number}") for number in range(100)})
        tx.insert_all(PLAINS, {})
    rows = store.reader().scan(PLAINS)
    assert [row.revision for row in rows] == [1] * 100
    assert {row.key: row.value.name for row in rows} == {f"k{number}": f"n{number}" for number in range(100)}
    with pytest.raises(KmsError, match="changed by another") as conflict, store.transaction() as tx:
        tx.insert_all(PLAINS, {"new": Row("n"), "k7": Row("n")})
    assert kind(conflict) is ErrorKind.CONFLICT
    assert len(store.reader().keys(PLAINS)) == 100
    with pytest.raises(TypeError, match="use insert"), store.transaction() as tx:
        tx.insert_all(ITEMS, {"x": Row("n")})
    with store.transaction() as tx:
        tx.delete_all(PLAINS, ["k7", "k8", "not there"])
        tx.delete_all(PLAINS, [])
    assert len(store.reader().keys(PLAINS)) == 98
    with pytest.raises(TypeError, match="use delete"), store.transaction() as tx:
        tx.delete_all(ITEMS, ["x"])
