"""Locked names: five failures, one spelling, whatever is under way; over connections and workers."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest

from kms.errors import ErrorKind, KmsError
from kms.identity.methods import lockout
from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.store import FAILURES
from kms.operation import LockoutRule, MountRef
from kms.storage import SqliteStore
from tests.drills import guessing
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.processes import wait_for
from tests.identity.wire import FakeClock
from tests.support import make_store

MOUNT = MountRef("m", "auth/userpass/", "userpass", "auth_userpass_0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = make_store(tmp_path)
    yield made
    made.close()


def fails(lockouts: Lockouts, name: str = "ann", mount: MountRef = MOUNT) -> bool:
    """Whether one more failure is told that it was one, and not that the name is locked."""
    try:
        lockouts.failed(mount, name, known=True)
    except KmsError as error:
        return error.kind is not ErrorKind.UNAUTHENTICATED
    return True


def opened(lockouts: Lockouts, mount: MountRef = MOUNT) -> bool:
    try:
        lockouts.demand_open(mount, "ann")
    except KmsError:
        return False
    return True


def test_the_fifth_failure_locks_for_fifteen_minutes(store: SqliteStore) -> None:
    clock = FakeClock()
    lockouts = Lockouts(store, clock)
    assert [fails(lockouts) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not opened(lockouts)
    clock.time += 899
    assert not opened(lockouts)
    clock.time += 1
    assert opened(lockouts)
    assert fails(lockouts)


def test_what_was_under_way_when_it_locked_unlocks_nothing(store: SqliteStore) -> None:
    lockouts = Lockouts(store, FakeClock())
    for _ in range(5):
        fails(lockouts)
    # A guess that began before: wrong or right, it is told what a locked name is told.
    assert not fails(lockouts)
    with pytest.raises(KmsError), store.transaction() as tx:
        lockouts.succeeded(tx, MOUNT, "ann")
    assert not opened(lockouts)


def test_failures_are_forgotten_after_their_time_and_after_a_success(store: SqliteStore) -> None:
    clock = FakeClock()
    lockouts = Lockouts(store, clock)
    assert [fails(lockouts) for _ in range(4)] == [True] * 4
    clock.time += 901
    assert [fails(lockouts) for _ in range(4)] == [True] * 4
    with store.transaction() as tx:
        lockouts.succeeded(tx, MOUNT, "ann")
    assert [fails(lockouts) for _ in range(5)] == [True] * 5
    assert not opened(lockouts)


def test_the_mount_says_how_many_and_how_long(store: SqliteStore) -> None:
    clock = FakeClock()
    rule = LockoutRule(lockout_threshold=2, lockout_duration=10, lockout_counter_reset=5)
    mount = MountRef("m", "auth/userpass/", "userpass", "a", lockout=rule)
    lockouts = Lockouts(store, clock)
    assert fails(lockouts, mount=mount)
    clock.time += 6
    assert fails(lockouts, mount=mount)
    assert opened(lockouts, mount)
    assert fails(lockouts, mount=mount)
    assert not opened(lockouts, mount)
    clock.time += 10
    assert opened(lockouts, mount)
    off = MountRef("m", "auth/userpass/", "userpass", "a", lockout=LockoutRule(lockout_disable=True))
    assert [fails(lockouts, mount=off) for _ in range(9)] == [True] * 9
    assert opened(lockouts, off)


def test_made_up_names_do_not_switch_it_off(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockout, "MAX_ROWS", 10)
    lockouts = Lockouts(store, FakeClock())
    for number in range(20):
        lockouts.failed(MOUNT, f"nobody-{number}", known=False)
    assert store.reader().count(FAILURES, {}) == 10
    for _ in range(5):
        lockouts.failed(MOUNT, "ann", known=True)
    assert not opened(lockouts)


# -- through the door of four workers -------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    made = DevServer(tmp_path_factory.mktemp("lockout"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def api(server: DevServer) -> Iterator[Api]:
    with server.api() as made:
        yield made


def mounted(api: Api, **rule: Any) -> tuple[str, str]:
    """(path, accessor) of a new mount with a user `ann`."""
    path = f"up-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "userpass"})
    if rule:
        api.ok("POST", f"sys/auth/{path}/tune", {"user_lockout_config": rule})
    api.ok("POST", f"auth/{path}/users/ann", {"password": "right"})
    return path, str(api.get(f"sys/auth/{path}").data["accessor"])


def attempt(server: DevServer, path: str, password: str, name: str = "ann") -> int:
    with server.api("") as caller:
        return caller.post(f"auth/{path}/login/{name}", {"password": password}).status


def test_spellings_and_workers_make_no_difference(server: DevServer, api: Api) -> None:
    path, accessor = mounted(api)
    said = [
        attempt(server, path, "wrong", name) for name in ("ann", "ANN", "Ann", "aNn", "ann", "ANn", "ann")
    ]
    assert said == [400] * 5 + [403] * 2
    assert attempt(server, path, "right") == 403
    shown = api.ok("GET", f"sys/locked-users?mount_accessor={accessor}")
    (space,) = shown["by_namespace"]
    assert space["mount_accessors"] == [
        {"mount_accessor": accessor, "counts": 1, "alias_identifiers": ["ann"]}
    ]
    api.ok("POST", f"sys/locked-users/{accessor}/unlock/ann")
    assert attempt(server, path, "right") == 200
    assert api.ok("GET", f"sys/locked-users?mount_accessor={accessor}")["total"] == 0


def test_guesses_at_the_same_time_are_not_more_guesses(server: DevServer, api: Api) -> None:
    path, _ = mounted(api)
    said: list[int] = []

    def guess() -> None:
        said.append(attempt(server, path, "wrong"))

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == [400] * 5 + [403] * 11
    assert attempt(server, path, "right") == 403


def test_a_lock_ends_by_itself_and_settings_are_the_peers(server: DevServer, api: Api) -> None:
    path, accessor = mounted(api, lockout_threshold="2", lockout_duration="2s")
    tuned = api.get(f"sys/auth/{path}/tune").data
    assert {name: value for name, value in tuned.items() if "lockout" in name} == {
        "user_lockout_counter_reset_duration": 0,
        "user_lockout_disable": False,
        "user_lockout_duration": 2,
        "user_lockout_threshold": 2,
    }
    assert [attempt(server, path, "wrong") for _ in range(3)] == [400, 400, 403]
    wait_for(lambda: attempt(server, path, "right") == 200, 30, "the lock ends")
    bad = {"user_lockout_config": {"lockout_threshold": "x"}}
    assert (
        api.post(f"sys/auth/{path}/tune", bad).errors[0].startswith("unable to parse user lockout threshold")
    )
    api.ok("POST", f"sys/auth/{path}/tune", {"user_lockout_config": {"lockout_disable": True}})
    assert [attempt(server, path, "wrong") for _ in range(8)] == [400] * 8
    client = hvac.Client(server.address, server.token)
    client.write_data(f"sys/locked-users/{accessor}/unlock/ann", data={})


def test_a_role_id_is_locked_and_listed(server: DevServer, api: Api) -> None:
    path = f"ar-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "approle"})
    api.ok("POST", f"auth/{path}/role/ci", {"token_policies": "default"})
    role_id = api.get(f"auth/{path}/role/ci/role-id").data["role_id"]
    with server.api("") as caller:
        said = [
            caller.post(f"auth/{path}/login", {"role_id": role_id, "secret_id": "x"}).status for _ in range(6)
        ]
    assert said == [400] * 5 + [403]
    accessor = api.get(f"sys/auth/{path}").data["accessor"]
    (space,) = api.ok("GET", f"sys/locked-users?mount_accessor={accessor}")["by_namespace"]
    assert space["mount_accessors"][0]["alias_identifiers"] == [role_id]
    api.ok("POST", f"sys/locked-users/{accessor}/unlock/{role_id}")
    secret = api.post(f"auth/{path}/role/ci/secret-id").data["secret_id"]
    with server.api("") as caller:
        assert caller.post(f"auth/{path}/login", {"role_id": role_id, "secret_id": secret}).status == 200


def test_the_drill_of_guesses_finds_nothing_wrong(server: DevServer) -> None:
    assert guessing.drill(server, tokens=400, passwords=60) == []
