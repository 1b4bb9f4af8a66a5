"""Leases through the door of four workers, with hvac, a new connection for each try, and kills."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest

from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.processes import wait_for

TRIES = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """Four workers, users and a CA whose certificates have leases."""
    made = DevServer(tmp_path_factory.mktemp("leases"))
    made.start()
    with made.api() as api:
        for name in ("people", "others"):
            api.ok("POST", f"sys/auth/{name}", {"type": "userpass"})
            for user in ("ann", "bob"):
                api.ok("POST", f"auth/{name}/users/{user}", {"password": "pw", "token_policies": "app"})
        api.ok("PUT", "sys/policies/acl/app", {"policy": 'path "ca/*" { capabilities = ["update"] }'})
        api.ok("POST", "sys/mounts/ca", {"type": "pki"})
        api.ok("POST", "ca/root/generate/internal", {"common_name": "Leases", "key_type": "ec"})
        role = {"allow_any_name": True, "key_type": "ec", "generate_lease": True, "ttl": "1h"}
        api.ok("POST", "ca/roles/leased", role)
    yield made
    made.stop()


@pytest.fixture
def api(server: DevServer) -> Iterator[Api]:
    with server.api() as made:
        yield made


def login(api: Api, mount: str, user: str) -> str:
    answer = api.post(f"auth/{mount}/login/{user}", {"password": "pw"}).json
    return str(answer["auth"]["client_token"])


def issue(server: DevServer, token: str = "") -> dict[str, Any]:
    with server.api(token or None) as api:
        answer = api.post("ca/issue/leased", {"common_name": "a.example.test"})
    assert answer.status == 200, answer.content
    return answer.json


def works(server: DevServer, token: str) -> set[bool]:
    """What the workers say, asked over a new connection each time."""
    seen = set()
    for _ in range(TRIES):
        with server.api(token) as api:
            seen.add(api.get("auth/token/lookup-self").status == 200)
    return seen


def revoked(api: Api) -> set[str]:
    return set(api.ok("LIST", "ca/certs/revoked").get("keys", []))


def test_one_mount_is_revoked_on_every_worker_at_once(server: DevServer, api: Api) -> None:
    tokens = [login(api, "people", user) for user in ("ann", "bob", "bob")]
    other = login(api, "others", "ann")
    for token in tokens:
        assert works(server, token) == {True}
    api.ok("PUT", "sys/leases/revoke-prefix/auth/people", {})
    assert [works(server, token) for token in tokens] == [{False}] * 3
    assert works(server, other) == {True}
    assert api.list("sys/leases/lookup/auth/people").status == 404
    assert works(server, login(api, "people", "ann")) == {True}


def test_one_user_is_revoked_by_path_or_by_name(server: DevServer, api: Api) -> None:
    ann, bob = login(api, "people", "ann"), login(api, "people", "bob")
    api.ok("PUT", "sys/leases/revoke-prefix/auth/people/login/ann", {})
    assert (works(server, ann), works(server, bob)) == ({False}, {True})
    ann = login(api, "people", "ann")
    api.ok("PUT", "sys/leases/revoke-prefix/auth/people", {"role": "bob"})
    assert (works(server, ann), works(server, bob)) == ({True}, {False})


def test_hvac_drives_the_leases(server: DevServer, api: Api) -> None:
    client = hvac.Client(server.address, server.token)
    token = login(api, "others", "bob")
    prefix = "auth/others/login/bob/"
    (name, *_) = client.sys.list_leases(prefix)["data"]["keys"]
    held = client.sys.read_lease(prefix + name)["data"]
    assert held["path"] == prefix.rstrip("/")
    assert held["renewable"]
    with pytest.raises(hvac.exceptions.InvalidRequest, match="cannot be renewed"):
        client.sys.renew_lease(prefix + name)
    client.sys.revoke_lease(prefix + name)
    assert works(server, token) == {False}
    certificate = issue(server)
    with pytest.raises(hvac.exceptions.InvalidRequest, match="lease is not renewable"):
        client.sys.renew_lease(certificate["lease_id"], 60)
    client.sys.revoke_prefix("ca/issue")
    assert certificate["data"]["serial_number"] in revoked(api)
    second = issue(server)
    client.sys.revoke_force("ca/issue")
    assert second["data"]["serial_number"] in revoked(api)


def test_a_certificate_is_revoked_with_its_lease_and_with_its_owner(server: DevServer, api: Api) -> None:
    token = login(api, "others", "ann")
    mine, other = issue(server, token), issue(server)
    assert mine["lease_id"].startswith("ca/issue/leased/")
    assert 3590 <= mine["lease_duration"] <= 3600
    assert not mine["renewable"]
    api.ok("PUT", "sys/leases/revoke", {"lease_id": other["lease_id"]})
    assert other["data"]["serial_number"] in revoked(api)
    assert api.call("PUT", "sys/leases/lookup", {"lease_id": other["lease_id"]}).errors == ["invalid lease"]
    api.ok("POST", "auth/token/revoke", {"token": token})
    assert api.call("PUT", "sys/leases/lookup", {"lease_id": mine["lease_id"]}).errors == ["invalid lease"]
    wait_for(lambda: mine["data"]["serial_number"] in revoked(api), 60, "the certificate of a dead token")


def test_a_wrapped_answer_keeps_its_lease(server: DevServer, api: Api) -> None:
    wrapped = api.call(
        "POST", "ca/issue/leased", {"common_name": "w.example.test"}, headers={"X-Vault-Wrap-TTL": "60"}
    ).json["wrap_info"]
    with server.api(wrapped["token"]) as bearer:
        answer = bearer.post("sys/wrapping/unwrap").json
    assert answer["lease_id"].startswith("ca/issue/leased/")
    assert answer["lease_duration"] > 3500


def test_a_repeated_request_gets_the_same_lease(api: Api) -> None:
    headers = {"Idempotency-Key": '"5f0c7a52-8d2f-4c5c-9b43-6a52b1c6a001"'}
    body = {"common_name": "i.example.test"}
    first, second = (api.call("POST", "ca/issue/leased", body, headers=headers).json for _ in range(2))
    assert first["lease_id"] == second["lease_id"] != ""


def test_roles_that_store_nothing_give_no_lease(api: Api) -> None:
    role = {"allow_any_name": True, "key_type": "ec", "generate_lease": True, "no_store": True}
    api.ok("POST", "ca/roles/unstored", role)
    answer = api.post("ca/issue/unstored", {"common_name": "a.example.test"})
    assert (answer.status, answer.json["lease_id"]) == (200, "")


def test_what_a_removed_mount_issued_is_over(api: Api) -> None:
    api.ok("POST", "sys/mounts/gone", {"type": "pki"})
    api.ok("POST", "gone/root/generate/internal", {"common_name": "Gone", "key_type": "ec"})
    api.ok("POST", "gone/roles/r", {"allow_any_name": True, "key_type": "ec", "generate_lease": True})
    lease = api.post("gone/issue/r", {"common_name": "a.example.test"}).json["lease_id"]
    api.ok("DELETE", "sys/mounts/gone")
    assert api.call("PUT", "sys/leases/lookup", {"lease_id": lease}).errors == ["invalid lease"]
    wait_for(lambda: api.list("sys/leases/lookup/gone").status == 404, 60, "its leases are gone")


@pytest.mark.timeout(240)
def test_leases_end_right_after_a_kill(tmp_path: Path) -> None:
    server = DevServer(tmp_path / "killed")
    server.start()
    try:
        with server.api() as api:
            api.ok("POST", "sys/mounts/ca", {"type": "pki"})
            api.ok("POST", "ca/root/generate/internal", {"common_name": "Killed", "key_type": "ec"})
            api.ok(
                "POST", "ca/roles/leased", {"allow_any_name": True, "key_type": "ec", "generate_lease": True}
            )
            owner = api.post("auth/token/create", {"ttl": "10s"}).json["auth"]["client_token"]
            serial = issue(server, owner)["data"]["serial_number"]
            api.ok("POST", "auth/token/revoke", {"token": owner})
        server.kill_all()
        server.after_kill()
        server.start()
        with server.api() as api:
            wait_for(lambda: serial in revoked(api), 60, "the certificate is revoked after the start")
            assert api.list("sys/leases/lookup/ca").status == 404
    finally:
        server.stop()


def test_so_many_uses_are_so_many_requests(server: DevServer, api: Api) -> None:
    made = api.post("auth/token/create", {"policies": ["default"], "num_uses": 20}).json["auth"]
    said: list[int] = []

    def work() -> None:
        for _ in range(8):
            with server.api(made["client_token"]) as caller:
                said.append(caller.get("auth/token/lookup-self").status)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == [200] * 20 + [403] * 28
