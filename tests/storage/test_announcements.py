"""Caches of several processes: a commit is known to all before its author answers, and soon if the author dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kms.shared import Shared
from kms.storage import FILE_NAME, SqliteStore
from kms.storage.store import _LOOK_SECONDS
from kms.tables import Cache
from tests.storage.test_store import _SQL, ITEMS, Row, raw
from tests.support import make_sealer, make_store


class Page:
    """A shared page that can lose its word, as a process that dies between commit and announcement does."""

    def __init__(self) -> None:
        self.shared = Shared()
        self.silent = False

    def changes(self) -> int:
        return self.shared.changes()

    def announce_change(self) -> None:
        if not self.silent:
            self.shared.announce_change()


@pytest.fixture(name="page")
def _page() -> Page:
    return Page()


@pytest.fixture(name="stores")
def _stores(tmp_path: Path, page: Page) -> Iterator[list[SqliteStore]]:
    sealer = make_sealer()
    make_store(tmp_path, sealer).close()
    raw(tmp_path, _SQL)
    stores = [SqliteStore.open(tmp_path / FILE_NAME, page) for _ in range(2)]
    for store in stores:
        store.unlock(sealer)
    yield stores
    for store in stores:
        store.close()


def write(store: SqliteStore, name: str) -> None:
    with store.transaction() as tx:
        old = tx.get(ITEMS, "a")
        if old is None:
            tx.insert(ITEMS, "a", Row(name))
        else:
            tx.replace(ITEMS, old, Row(name))


def seen(store: SqliteStore, cache: Cache[Row]) -> str:
    store.refresh()
    row = cache.get("a")
    assert row is not None
    return row.value.name


def test_each_commit_is_seen_by_the_next_refresh_of_everybody(stores: list[SqliteStore]) -> None:
    one, two = stores
    mine, theirs = Cache(one, ITEMS), Cache(two, ITEMS)
    for number in range(200):
        write(one if number % 2 else two, str(number))
        assert seen(one, mine) == seen(two, theirs) == str(number)


def test_a_commit_without_its_word_is_seen_soon_and_at_once_by_who_is_thorough(
    stores: list[SqliteStore], page: Page
) -> None:
    one, two = stores
    cache = Cache(two, ITEMS)
    write(one, "before")
    assert seen(two, cache) == "before"
    page.silent = True
    two.refresh(thorough=True)
    write(one, "orphan")
    assert seen(two, cache) == "before", "nobody was told, so this test is about something"
    time.sleep(1.5 * _LOOK_SECONDS)
    assert seen(two, cache) == "orphan"
    write(one, "another")
    two.refresh(thorough=True)
    row = cache.get("a")
    assert row is not None
    assert row.value.name == "another"


def test_what_no_cache_holds_is_not_announced(stores: list[SqliteStore], page: Page) -> None:
    before = page.changes()
    with stores[0].transaction():
        pass
    assert page.changes() == before
    write(stores[0], "x")
    assert page.changes() == before + 1


def test_a_commit_that_fails_is_not_announced(stores: list[SqliteStore], page: Page) -> None:
    before = page.changes()
    with pytest.raises(RuntimeError), stores[0].transaction() as tx:
        tx.insert(ITEMS, "a", Row("x"))
        raise RuntimeError("no")
    assert page.changes() == before
