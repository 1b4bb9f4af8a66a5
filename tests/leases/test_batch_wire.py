"""Batch tokens of logins, with four workers: who decides that they are made, and what ends them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import hvac
import pytest

from tests.harness.api import Api
from tests.harness.dev import DevServer

TRIES = 12
# (what the mount says, what the user says) -> what a login gives, as the real server has it
KINDS = {
    ("", "default"): "service",
    ("", "batch"): "batch",
    ("default-batch", "default"): "batch",
    ("default-batch", "service"): "service",
    ("batch", "service"): "batch",
    ("service", "batch"): "service",
    ("default-service", "batch"): "batch",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    made = DevServer(tmp_path_factory.mktemp("batch"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def api(server: DevServer) -> Iterator[Api]:
    with server.api() as made:
        yield made


def mounted(api: Api, kind: str = "", **user: Any) -> str:
    """A new mount of userpass with one user, `ann`."""
    path = f"up-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "userpass", "config": {"token_type": kind} if kind else {}})
    api.ok("POST", f"auth/{path}/users/ann", {"password": "pw", **user})
    return path


def login(api: Api, path: str) -> dict[str, Any]:
    answer = api.post(f"auth/{path}/login/ann", {"password": "pw"})
    assert answer.status == 200, answer.content
    auth: dict[str, Any] = answer.json["auth"]
    return auth


def works(server: DevServer, token: str) -> set[bool]:
    seen = set()
    for _ in range(TRIES):
        with server.api(token) as api:
            seen.add(api.get("auth/token/lookup-self").status == 200)
    return seen


@pytest.mark.parametrize(("mount", "user"), KINDS)
def test_mount_and_user_decide(api: Api, mount: str, user: str) -> None:
    path = mounted(api, mount, token_type=user)
    auth = login(api, path)
    assert auth["token_type"] == KINDS[mount, user]
    assert (auth["accessor"] == "") == (auth["token_type"] == "batch")
    shown = api.get(f"sys/auth/{path}/tune").data["token_type"]
    assert shown == (mount or "default-service")


def test_limited_uses_and_batch_do_not_meet(api: Api) -> None:
    path = mounted(api, "batch", token_num_uses=3)
    assert "limited uses" in api.post(f"auth/{path}/login/ann", {"password": "pw"}).errors[0]
    assert api.post("sys/auth/token/tune", {"token_type": "batch"}).errors == [
        "'token_type' cannot be set for 'token' or 'ns_token' auth mounts"
    ]
    assert api.post(f"sys/auth/{path}/tune", {"token_type": "weird"}).errors == [
        "invalid value for 'token_type'"
    ]


def test_revoking_the_prefix_or_removing_the_mount_ends_them(server: DevServer, api: Api) -> None:
    one, other = mounted(api, "batch"), mounted(api, "batch")
    tokens = [login(api, path)["client_token"] for path in (one, other)]
    assert [works(server, token) for token in tokens] == [{True}, {True}]
    api.ok("PUT", f"sys/leases/revoke-prefix/auth/{one}", {})
    api.ok("DELETE", f"sys/auth/{other}")
    assert [works(server, token) for token in tokens] == [{False}, {False}]
    assert works(server, login(api, one)["client_token"]) == {True}


def test_hvac_uses_one(server: DevServer) -> None:
    client = hvac.Client(server.address, server.token)
    made = client.auth.token.create(policies=["default"], type="batch", ttl="10m")["auth"]
    batch = hvac.Client(server.address, made["client_token"])
    assert batch.is_authenticated()
    assert batch.auth.token.lookup_self()["data"]["type"] == "batch"
    with pytest.raises(hvac.exceptions.InvalidRequest, match="cannot be renewed"):
        batch.auth.token.renew_self()
    with pytest.raises(hvac.exceptions.InvalidRequest, match="cannot be revoked"):
        client.auth.token.revoke(made["client_token"])
    with pytest.raises(hvac.exceptions.InvalidRequest, match="only supported by 'service' type tokens"):
        batch.write_data("cubbyhole/x", data={"a": "b"})
    role = {"orphan": True, "renewable": False, "token_type": "batch"}
    client.write_data("auth/token/roles/ci", data=role)
    assert client.auth.token.create(role_name="ci", policies=["default"])["auth"]["token_type"] == "batch"


def test_its_leases_end_with_it(server: DevServer, api: Api) -> None:
    path = f"ca-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/mounts/{path}", {"type": "pki"})
    api.ok("POST", f"{path}/root/generate/internal", {"common_name": "Batch", "key_type": "ec"})
    role = {"allow_any_name": True, "key_type": "ec", "generate_lease": True, "ttl": "1h"}
    api.ok("POST", f"{path}/roles/r", role)
    rules = f'path "{path}/issue/r" {{ capabilities = ["update"] }}'
    api.ok("PUT", "sys/policies/acl/issue", {"policy": rules})
    made = api.post("auth/token/create", {"type": "batch", "policies": ["issue"], "ttl": "5m"}).json["auth"]
    with server.api(made["client_token"]) as caller:
        answer = caller.post(f"{path}/issue/r", {"common_name": "a.example.test"}).json
    assert 290 <= answer["lease_duration"] <= 300
    row = api.call("PUT", "sys/leases/lookup", {"lease_id": answer["lease_id"]}).json["data"]
    assert row["ttl"] <= 300
