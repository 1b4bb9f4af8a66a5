"""The rows of one namespace: reads and writes of it see no row of another, whatever key is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kms.clock import SystemClock
from kms.identity.entities.model import ENTITIES, MEMBERSHIPS, Entity, Membership
from kms.identity.oidc.model import CLIENTS, KEYS, SCOPES, Client, OidcKey, Scope
from kms.identity.within import Within, Writing, namespace_id_of, of_id
from kms.operation import ROOT_NAMESPACE, NamespaceRef
from kms.tables import Store
from tests.identity.wire import Server

RED, BLUE = NamespaceRef("Ab3dEf", "red/"), NamespaceRef("Ab3dEg", "blue/")
PLACES = (ROOT_NAMESPACE, RED, BLUE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Server(tmp_path, SystemClock()).first.store


def put(store: Store, namespace: NamespaceRef, *names: str) -> None:
    with store.transaction() as tx:
        for name in names:
            Writing(tx, namespace).insert(SCOPES, name, Scope(description=f"{name} of {namespace.path}"))


def test_a_key_is_looked_for_in_its_namespace_alone(store: Store) -> None:
    for namespace in PLACES:
        put(store, namespace, "a", "b")
    put(store, RED, "only-red")
    for namespace in PLACES:
        own = Within(store.reader(), namespace)
        held = own.get(SCOPES, "a")
        assert held is not None
        assert (held.key, held.value.description) == ("a", f"a of {namespace.path}")
        names = ["a", "b", *(["only-red"] if namespace == RED else [])]
        assert own.keys(SCOPES) == names
        assert [row.key for row in own.scan(SCOPES)] == names
        assert own.keys(SCOPES, after="a") == names[1:]
        assert own.keys(SCOPES, limit=1) == ["a"]
        assert [row.key for row in own.scan(SCOPES, after="a", limit=1)] == ["b"]
        assert [row.key for row in own.scan(SCOPES, "b")] == ["b"]
        assert own.count(SCOPES, {}) == len(names)


@pytest.mark.parametrize(
    "key", ["Ab3dEf/a", "Ab3dEg/a", "/a", "Ab3dEf/Ab3dEf/a", "../a", "Ab3dEf/", "a/", "", "a\x00", "Ab3dEf"]
)
def test_no_key_that_a_caller_makes_up_leads_out(store: Store, key: str) -> None:
    for namespace in PLACES:
        put(store, namespace, "a")
    for namespace in PLACES:
        assert Within(store.reader(), namespace).get(SCOPES, key) is None
        with store.transaction() as tx:
            assert Writing(tx, namespace).get(SCOPES, key) is None


def test_the_root_namespace_makes_no_row_of_another(store: Store) -> None:
    with store.transaction() as tx, pytest.raises(ValueError, match="slash"):
        Writing(tx, ROOT_NAMESPACE).insert(SCOPES, "Ab3dEf/a", Scope())
    assert Within(store.reader(), RED).keys(SCOPES) == []


def test_writes_reach_the_row_of_the_namespace(store: Store) -> None:
    for namespace in PLACES:
        put(store, namespace, "a")
    with store.transaction() as tx:
        own = Writing(tx, RED)
        row = own.get(SCOPES, "a")
        assert row is not None
        changed = own.replace(SCOPES, row, Scope(description="changed"))
        assert (changed.key, changed.revision) == ("a", 2)
        other = Writing(tx, BLUE)
        gone = other.get(SCOPES, "a")
        assert gone is not None
        other.delete(SCOPES, gone)
    found = {one.path: Within(store.reader(), one).get(SCOPES, "a") for one in PLACES}
    shown = {path: row.value.description if row is not None else None for path, row in found.items()}
    assert shown == {"": "a of ", "red/": "changed", "blue/": None}


def test_rows_that_an_index_finds_are_those_of_the_namespace(store: Store) -> None:
    with store.transaction() as tx:
        for number, namespace in enumerate(PLACES):
            own = Writing(tx, namespace)
            own.insert(CLIENTS, "app", Client(name="app", client_id=f"c{number}"))
            own.insert(KEYS, "k", OidcKey(due=1.0))
            own.insert(MEMBERSHIPS, "e/e/g", Membership(group_id=f"g{number}", member_id="e"))
    for number, namespace in enumerate(PLACES):
        reader = Within(store.reader(), namespace)
        found = [reader.find(CLIENTS, {"client_id": f"c{one}"}, limit=1) for one in range(3)]
        assert [bool(rows) for rows in found] == [one == number for one in range(3)]
        assert [row.key for row in reader.find(KEYS, {}, below=("due", 2.0))] == ["k"]
        assert reader.count(MEMBERSHIPS, {"group_id": f"g{number}"}) == 1
        assert [row.key for row in reader.scan(MEMBERSHIPS, "e/e/")] == ["e/e/g"]
    assert len(store.reader().find(KEYS, {}, below=("due", 2.0))) == 3


def test_an_id_tells_its_namespace(store: Store) -> None:
    for namespace in PLACES:
        with store.transaction() as tx:
            own = Writing(tx, namespace)
            made = own.new_id()
            own.insert(ENTITIES, made, Entity(id=made, name="n", created=0.0, updated=0.0))
        assert namespace_id_of(made) == namespace.id
        assert of_id(store.reader(), made).get(ENTITIES, made) is not None
        others = [one for one in PLACES if one != namespace]
        assert all(Within(store.reader(), one).get(ENTITIES, made) is None for one in others)
