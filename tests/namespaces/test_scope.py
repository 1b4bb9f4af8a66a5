"""What of sys/ a tenant may ask for, and that nothing is added to a namespace while it is removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from kms.app import leasing
from kms.errors import ErrorKind, KmsError
from kms.http.vault import namespaces, policies, sys_quorum, token
from kms.http.vault import sys as sys_routes
from kms.namespaces import NAMESPACES, Namespace, NamespaceTable
from kms.operation import ROOT_NAMESPACE, Call, Capability, MountRef, NamespaceRef, Operation, Result
from kms.system.namespaces import Threshold
from kms.system.namespaces.scope import IN_NAMESPACES
from tests.support import make_store

ROUTES = (
    *sys_routes.ROUTES,
    *namespaces.ROUTES,
    *sys_quorum.ROUTES,
    *policies.ROUTES,
    *policies.CONTROL_GROUP,
    *policies.EXPLAIN,
    *leasing.ROUTES,
    *token.WRAPPING,
)
TEAM = NamespaceRef("abc123", "team/")
KID = NamespaceRef("def456", "team/kid/")
# Of the whole server: a tenant that could ask for one of these would see, or stop, everybody's.
OF_THE_SERVER = (
    "sys.seal",
    "sys.audit.list",
    "sys.audit.enable",
    "sys.config.cors.write",
    "sys.evidence.read",
    "sys.generate_root.start",
    "sys.hsm.tokens.remove",
    "sys.keyring.rotate",
    "sys.loggers.set_all",
    "sys.metrics",
    "sys.rekey.start",
    "sys.root.rotate",
)


def test_the_list_names_operations_and_none_of_the_server() -> None:
    names = {route.operation for route in ROUTES} | {"sys.no_route"}
    assert names >= IN_NAMESPACES
    assert names >= set(OF_THE_SERVER)
    assert not IN_NAMESPACES & set(OF_THE_SERVER)


def _call(name: str, namespace: NamespaceRef, kind: str = "system", **args: object) -> Call:
    operation = Operation(name, Capability.READ, lambda _call: Result())
    mount = MountRef("m", f"{namespace.path}sys/", kind, "a", namespace=namespace)
    return Call(operation, f"{mount.path}x", mount, dict(args), "id", "", "test", namespace=namespace)


CASES: dict[str, tuple[Callable[[Namespace], Namespace], Call, str]] = {
    "open": (lambda row: row, _call("sys.mounts.list", KID), ""),
    "of the server": (lambda row: row, _call("sys.seal", KID), "operation unavailable in namespaces"),
    "an operation that nobody thought of": (
        lambda row: row,
        _call("sys.new", TEAM),
        "operation unavailable in namespaces",
    ),
    "of an engine": (lambda row: row, _call("transit.encrypt", KID, "transit"), ""),
    "locked": (lambda row: replace(row, lock="x"), _call("sys.mounts.list", TEAM), "has been locked"),
    "locked above": (lambda row: replace(row, lock="x"), _call("transit.encrypt", KID, "transit"), "locked"),
    "locked, to be unlocked": (lambda row: replace(row, lock="x"), _call("sys.namespaces.unlock", TEAM), ""),
    "locked, to unlock another": (
        lambda row: replace(row, lock="x"),
        _call("sys.namespaces.unlock", TEAM, path="kid"),
        "locked",
    ),
    "being removed": (lambda row: replace(row, tainted=True), _call("sys.mounts.list", KID), "tainted"),
}


@pytest.mark.parametrize("name", CASES)
def test_who_may_enter(name: str, tmp_path: Path) -> None:
    change, call, refusal = CASES[name]
    store = make_store(tmp_path)
    with store.transaction() as tx:
        tx.insert(NAMESPACES, TEAM.path, change(Namespace(id=TEAM.id, uuid="u")))
        tx.insert(NAMESPACES, KID.path, Namespace(id=KID.id, uuid="v"))
    threshold = Threshold(NamespaceTable(store, lambda: True, lambda: None))
    if refusal:
        with pytest.raises(KmsError, match=refusal):
            threshold.admit(call)
    else:
        threshold.admit(call)
    store.close()


def test_nothing_is_added_while_it_is_removed_or_after(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    table = NamespaceTable(store, lambda: True, lambda: None)
    threshold, call = Threshold(table), _call("transit.keys.create", TEAM, "transit")
    with store.transaction() as tx:
        row = tx.insert(NAMESPACES, TEAM.path, Namespace(id=TEAM.id, uuid="u"))
        threshold.stay(tx, call)
    for state in ({"tainted": True}, {"tainted": False, "id": "other1"}):
        with store.transaction() as tx:
            row = tx.replace(NAMESPACES, row, replace(row.value, **state))
            with pytest.raises(KmsError) as error:
                threshold.stay(tx, call)
            assert error.value.kind is ErrorKind.NOT_FOUND
    store.close()


def test_a_path_lies_in_its_innermost_namespace(tmp_path: Path) -> None:
    here = make_store(tmp_path)
    table = NamespaceTable(here, lambda: True, lambda: None)
    assert (table.some, table.of("team/kid/x")) == (False, ROOT_NAMESPACE)
    with here.transaction() as tx:
        row = tx.insert(NAMESPACES, TEAM.path, Namespace(id=TEAM.id, uuid="u"))
        tx.insert(NAMESPACES, KID.path, Namespace(id=KID.id, uuid="v"))
    here.refresh()
    assert table.some
    for path, namespace in {
        "team/kid/sys/x": KID,
        "team/kid/": KID,
        "team/kid": TEAM,
        "team/kidnap/x": TEAM,
        "team": ROOT_NAMESPACE,
        "teams/x": ROOT_NAMESPACE,
        "x/team/y": ROOT_NAMESPACE,
    }.items():
        assert table.of(path) == namespace, path
    assert (table.living(KID.id), table.living("none"), table.living("")) == (KID, None, ROOT_NAMESPACE)
    with here.transaction() as tx:
        tx.replace(NAMESPACES, row, replace(row.value, tainted=True))
    here.refresh()
    assert (table.living(TEAM.id), table.living(KID.id)) == (None, None)
    here.close()
