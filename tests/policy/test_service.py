"""PolicyService: names in one spelling, texts kept, compiled sets never stale."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.operation import Capability
from kms.policy import DEFAULT, ROOT, PolicyService, canonical_name, decide
from kms.policy.store import POLICIES
from kms.storage import SqliteStore, prepare
from tests.support import make_sealer, make_store

READ_A = 'path "a" { capabilities = ["read"] }'
DENY_A = 'path "a" { capabilities = ["deny"] }'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = make_store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def service(store: SqliteStore) -> PolicyService:
    return PolicyService(store, SystemClock())


def put(service: PolicyService, store: SqliteStore, name: str, text: str) -> None:
    prepared = service.prepare(name, text)
    with store.transaction() as tx:
        service.put(tx, prepared)


def may_read(service: PolicyService, *names: str) -> bool:
    return decide(service.acl_for(names), "a", Capability.READ).allowed


# T-45: spellings that are, or look like, the name of a builtin.
SPELLINGS = [
    "root ", " root", "root\t", "root\n", "root\x00", "\x00root", "ro ot", "root.", ".root", "root/", "/root",
    "./root", "root/.", "\uff52\uff4f\uff4f\uff54", "r\u043e\u043et", "r\u00f6ot", "ro\u200bot", "root\u00a0", "root%20", "root;", "root,x",
    "ROOT ", "-root", "\u0280\u1d0f\u1d0f\u1d1b", "root\u0301", "\ufeffroot", "\U0001d42boot", "roo\u0074\u034f", "\u212aey", "", "x" * 129,
]  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_refused_and_never_resolves_to_a_builtin(
    service: PolicyService, store: SqliteStore, name: str
) -> None:
    for attempt in (
        lambda: service.get(name),
        lambda: put(service, store, name, READ_A),
        lambda: canonical_name(name),
    ):
        with pytest.raises(KmsError) as caught:
            attempt()
        assert caught.value.kind is ErrorKind.INVALID
    assert service.list() == ["auditor", DEFAULT, ROOT]
    # Even a name that got into a token by some other way means nothing.
    assert not service.acl_for((name,)).root
    assert not may_read(service, name)


@pytest.mark.parametrize(
    "name", ["root", "ROOT", "Root", "response-wrapping", "Control-Group", "auditor", "AUDITOR"]
)
def test_internal_names_cannot_be_written(service: PolicyService, store: SqliteStore, name: str) -> None:
    with pytest.raises(KmsError, match="cannot update"):
        put(service, store, name, READ_A)
    with store.transaction() as tx, pytest.raises(KmsError, match="cannot delete"):
        service.delete(tx, name)


def test_upper_case_is_the_same_policy(service: PolicyService, store: SqliteStore) -> None:
    put(service, store, "App.One", READ_A)
    put(service, store, "APP.ONE", DENY_A)
    row = service.get("app.one")
    assert row is not None
    assert (row.name, row.text, row.version) == ("app.one", DENY_A, 2)
    assert service.list() == ["app.one", "auditor", DEFAULT, ROOT]


def test_a_refused_text_changes_nothing(service: PolicyService, store: SqliteStore) -> None:
    put(service, store, "app", READ_A)
    with pytest.raises(KmsError):
        put(service, store, "app", 'path "a" { capabilities = ["fly"] }')
    with pytest.raises(KmsError, match="not supplied or empty"):
        put(service, store, "app", "")
    assert may_read(service, "app")


def test_base64_is_unwrapped(service: PolicyService, store: SqliteStore) -> None:
    put(service, store, "app", base64.b64encode(READ_A.encode()).decode())
    row = service.get("app")
    assert row is not None
    assert row.text == READ_A


def test_default_exists_unwritten_and_can_be_rewritten_but_not_deleted(
    service: PolicyService, store: SqliteStore
) -> None:
    assert decide(service.acl_for((DEFAULT,)), "auth/token/lookup-self", Capability.READ).allowed
    put(service, store, DEFAULT, READ_A)
    assert may_read(service, DEFAULT)
    assert not decide(service.acl_for((DEFAULT,)), "auth/token/lookup-self", Capability.READ).allowed
    with store.transaction() as tx, pytest.raises(KmsError, match="cannot delete default policy"):
        service.delete(tx, DEFAULT)


def test_deleting_takes_the_rights_away_and_is_repeatable(service: PolicyService, store: SqliteStore) -> None:
    put(service, store, "app", READ_A)
    assert may_read(service, "app")
    for _ in range(2):
        with store.transaction() as tx:
            service.delete(tx, "app")
        assert not may_read(service, "app")
        assert service.get("app") is None


def test_root_has_no_text(service: PolicyService) -> None:
    row = service.get("ROOT")
    assert row is not None
    assert row.text == ""
    assert service.acl_for((ROOT,)).root
    assert service.exists(ROOT)
    assert service.exists(DEFAULT)
    assert not service.exists("app")


def test_other_processes_see_a_change_at_their_next_refresh(tmp_path: Path) -> None:
    path, sealer = prepare(tmp_path), make_sealer()
    stores = [SqliteStore.open(path) for _ in range(2)]
    for opened in stores:
        opened.unlock(sealer)
    here, there = (PolicyService(opened, SystemClock()) for opened in stores)
    assert not may_read(there, "app", "late")
    put(here, stores[0], "late", READ_A)
    stores[1].refresh()
    assert may_read(there, "app", "late"), "a policy that did not exist was remembered as missing"
    put(here, stores[0], "late", DENY_A)
    stores[1].refresh()
    assert not may_read(there, "app", "late")
    for opened in stores:
        opened.close()


def test_a_change_during_compiling_is_not_lost(
    service: PolicyService, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, store, "app", READ_A)
    compiling, changed = threading.Event(), threading.Event()
    original = service._compile

    def slow(names: tuple[str, ...], values: Mapping[str, str]) -> object:
        acl = original(names, values)
        compiling.set()
        assert changed.wait(10)
        return acl

    monkeypatch.setattr(service, "_compile", slow)
    worker = threading.Thread(target=lambda: service.acl_for(("app",)))
    worker.start()
    assert compiling.wait(10)
    put(service, store, "app", DENY_A)
    changed.set()
    worker.join()
    monkeypatch.setattr(service, "_compile", original)
    assert not may_read(service, "app")


def test_compiled_sets_are_kept_and_bounded(service: PolicyService, store: SqliteStore) -> None:
    put(service, store, "app", READ_A)
    assert service.acl_for(("app",)) is service.acl_for(("app",))
    for number in range(1_200):
        service.acl_for((f"p{number}",))
    assert len(service._acls) <= 1_024


def test_a_document_of_an_older_language_is_read_again(service: PolicyService, store: SqliteStore) -> None:
    put(service, store, "app", READ_A)
    with store.transaction() as tx:
        row = tx.get(POLICIES, "app")
        assert row is not None
        tx.replace(
            POLICIES, row, replace(row.value, language=0, document=replace(row.value.document, rules=()))
        )
    assert may_read(service, "app")
