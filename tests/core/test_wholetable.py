"""A table in memory: a change costs one row, is seen by every process, and is never hidden by an older read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kms.namespaces import NAMESPACES, Namespace
from kms.tables import Row
from kms.wholetable import WholeTable
from tests.support import make_sealer, make_store


def _write(store: Any, key: str, uuid: str) -> None:
    with store.transaction() as tx:
        row = tx.get(NAMESPACES, key)
        value = Namespace(id="abc123", uuid=uuid)
        if row is None:
            tx.insert(NAMESPACES, key, value)
        else:
            tx.replace(NAMESPACES, row, value)


def _loaded(table: WholeTable[Any, Any]) -> bool:
    return table.current is not None


def test_one_change_is_one_row_in_every_process(tmp_path: Path) -> None:
    sealer = make_sealer()
    here, there = make_store(tmp_path, sealer), make_store(tmp_path, sealer)
    made: list[str] = []

    def make(row: Row[Namespace]) -> str:
        made.append(row.key)
        return row.value.uuid

    table = WholeTable(there, NAMESPACES, make)
    for number in range(20):
        _write(here, f"n{number}/", "first")
    there.refresh()
    assert len(table.get().rows) == 20
    assert _loaded(table)
    made.clear()
    _write(here, "n3/", "second")
    _write(here, "new/", "third")
    with here.transaction() as tx:
        row = tx.get(NAMESPACES, "n4/")
        assert row is not None
        tx.delete(NAMESPACES, row)
    there.refresh()
    assert not _loaded(table)
    found = table.get().made
    assert (len(found), found["n3/"], found["new/"], "n4/" in found) == (20, "second", "third", False)
    assert sorted(made) == ["n3/", "new/"]
    table.clear()
    assert table.get().made == found
    here.close()
    there.close()


def test_a_change_during_a_read_is_not_hidden(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    _write(store, "a/", "first")
    _write(store, "b/", "first")
    pending: list[str] = []

    def make(row: Row[Namespace]) -> str:
        while pending:
            _write(store, pending.pop(), "second")
        return row.value.uuid

    table = WholeTable(store, NAMESPACES, make)
    for read in ("whole", "one row"):
        pending.append("b/" if read == "whole" else "a/")
        table.get()
        assert not _loaded(table), read
        if read == "whole":
            _write(store, "b/", "third")
    assert table.get().made == {"a/": "second", "b/": "third"}
    assert _loaded(table)
    store.close()
