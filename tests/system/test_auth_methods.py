"""Userpass and approle on a server with four workers, with hvac and bao; and what removing a mount ends."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hvac
import pytest

from tests.harness.api import Answer, Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer

WRONG = "invalid username or password"
WRONG_ROLE = "invalid role or secret ID"
Enabler = Callable[[str], str]


@pytest.fixture
def auth(api: Api) -> Enabler:
    """Enables a method under a path that nobody else uses; the path without slash."""

    def enable(kind: str) -> str:
        path = f"{kind}-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/auth/{path}", {"type": kind})
        return path

    return enable


def login(server: DevServer, path: str, body: object) -> Answer:
    with server.api("") as anybody:
        return anybody.post(f"auth/{path}", body)


# -- userpass ------------------------------------------------------------------------------------------


def test_hvac_and_bao_log_in_with_a_password(
    root: hvac.Client, bao: Bao, auth: Enabler, server: DevServer
) -> None:
    path = auth("userpass")
    up = root.auth.userpass
    up.create_or_update_user("Bob", "correct horse", policies=["dev"], mount_point=path)
    assert up.list_user(mount_point=path)["data"]["keys"] == ["bob"]
    assert up.read_user("bob", mount_point=path)["data"]["token_policies"] == ["dev"]
    client = hvac.Client(url=server.address)
    answer = client.auth.userpass.login("BOB", "correct horse", mount_point=path)["auth"]
    assert (answer["metadata"], answer["policies"], answer["orphan"]) == (
        {"username": "bob"},
        ["default", "dev"],
        True,
    )
    assert client.lookup_token()["data"]["display_name"] == f"{path}-bob"
    assert client.auth.token.renew_self()["auth"]["lease_duration"] == 2764800
    up.update_password_on_user("bob", "another", mount_point=path)
    with pytest.raises(hvac.exceptions.InvalidRequest, match=WRONG):
        client.auth.userpass.login("bob", "correct horse", mount_point=path)
    told = bao(
        "login",
        "-format=json",
        "-no-store",
        "-method=userpass",
        f"-path={path}",
        "username=bob",
        "password=another",
    )
    assert json.loads(told)["auth"]["metadata"] == {"username": "bob"}
    up.delete_user("bob", mount_point=path)
    with pytest.raises(hvac.exceptions.InvalidRequest, match=WRONG):
        client.auth.userpass.login("bob", "another", mount_point=path)
    client.adapter.close()


def test_users_are_checked_and_shown_without_their_password(api: Api, auth: Enabler) -> None:
    users = f"auth/{auth('userpass')}/users"
    assert api.post(f"{users}/ann", {"token_policies": "a"}).errors == [
        "must provide either password or password_hash"
    ]
    for body, text in (
        ({"password": "x", "token_policies": "root"}, "auth methods cannot create root tokens"),
        ({"password": "x", "token_policies": "response-wrapping"}, "cannot assign policy"),
        ({"password": "x", "token_type": "batch", "token_num_uses": 3}, "limited use count"),
        ({"password": "x", "token_type": "batch", "token_period": "1h"}, "periodic tokens"),
        ({"password": "x", "token_ttl": "5h", "token_max_ttl": "2h"}, "cannot be greater than"),
        ({"password": "x", "token_bound_cidrs": "10.0.0.0/99"}, "not an address or a network"),
        ({"password": "x" * 1025}, "at most 1024 bytes"),
        ({"password_hash": "$2a$10$x"}, "bcrypt"),
    ):
        answer = api.post(f"{users}/ann", body)
        assert answer.status == 400, body
        assert text in answer.errors[0]
    assert api.get(f"{users}/ann").status == 404, "nothing of it was kept"
    assert api.post(f"{users}/%EF%BD%81nn", {"password": "x"}).status == 400, "one spelling"
    assert api.post(f"{users}/ann/password", {"password": "x"}).status == 400
    api.ok("POST", f"{users}/ann", {"password": "x", "ttl": "1h", "policies": ["b", "A"]})
    assert api.get(f"{users}/ann").data == {
        "token_bound_cidrs": [],
        "token_explicit_max_ttl": 0,
        "token_max_ttl": 0,
        "token_no_default_policy": False,
        "token_num_uses": 0,
        "token_period": 0,
        "token_policies": ["a", "b"],
        "token_strictly_bind_ip": False,
        "token_ttl": 3600,
        "token_type": "default",
    }


def test_guessing_locks_a_name_whoever_has_it_and_however_it_is_spelled(
    server: DevServer, api: Api, auth: Enabler
) -> None:
    path = auth("userpass")
    api.ok("POST", f"auth/{path}/users/ann", {"password": "right"})
    told = {}
    for name in ("ann", "nobody"):
        spellings = [name, name.upper(), name.title(), name, name.upper()]
        told[name] = [login(server, f"{path}/login/{each}", {"password": "bad"}).errors for each in spellings]
        assert told[name] == [[WRONG]] * 5
        locked = login(server, f"{path}/login/{name}", {"password": "right"})
        assert (locked.status, locked.errors) == (403, ["permission denied"])
    assert login(server, f"{path}/login/ann", {}).status == 400


def test_guesses_of_many_threads_count_exactly(server: DevServer, api: Api, auth: Enabler) -> None:
    path = auth("userpass")
    api.ok("POST", f"auth/{path}/users/ann", {"password": "right"})
    with ThreadPoolExecutor(4) as pool:
        statuses = list(
            pool.map(lambda _: login(server, f"{path}/login/ann", {"password": "bad"}).status, range(4))
        )
    assert statuses == [400] * 4
    assert login(server, f"{path}/login/ann", {"password": "right"}).status == 200, "four of five"
    assert [login(server, f"{path}/login/ann", {"password": "bad"}).status for _ in range(5)] == [400] * 5
    assert login(server, f"{path}/login/ann", {"password": "right"}).status == 403


def test_a_token_works_from_its_networks_only(server: DevServer, api: Api, auth: Enabler) -> None:
    path = auth("userpass")
    user = f"auth/{path}/users/ann"
    api.ok("POST", user, {"password": "x", "token_bound_cidrs": "10.0.0.0/8"})
    assert login(server, f"{path}/login/ann", {"password": "x"}).status == 403
    api.ok("POST", user, {"token_bound_cidrs": "127.0.0.0/8,10.0.0.0/8"})
    token = login(server, f"{path}/login/ann", {"password": "x"}).json["auth"]["client_token"]
    with server.api(token) as owner:
        assert owner.get("auth/token/lookup-self").data["bound_cidrs"] == ["127.0.0.0/8", "10.0.0.0/8"]
    api.ok("POST", user, {"token_bound_cidrs": "", "token_strictly_bind_ip": True})
    token = login(server, f"{path}/login/ann", {"password": "x"}).json["auth"]["client_token"]
    with server.api(token) as owner:
        assert owner.get("auth/token/lookup-self").data["bound_cidrs"] == ["127.0.0.1"]


def test_a_token_role_binds_to_networks_too(server: DevServer, api: Api) -> None:
    role = f"cidr-{secrets.token_hex(4)}"
    statuses = {}
    for network in ("10.0.0.0/8", "127.0.0.1"):
        api.ok("POST", f"auth/token/roles/{role}", {"token_bound_cidrs": network})
        made = api.post(f"auth/token/create/{role}", {"ttl": "1h"}).json["auth"]["client_token"]
        with server.api(made) as owner:
            statuses[network] = owner.get("auth/token/lookup-self").status
    assert statuses == {"10.0.0.0/8": 403, "127.0.0.1": 200}
    assert api.get(f"auth/token/roles/{role}").data["token_bound_cidrs"] == ["127.0.0.1"]


def test_renewal_follows_the_user_as_it_is_now(server: DevServer, api: Api, auth: Enabler) -> None:
    path = auth("userpass")
    user = f"auth/{path}/users/ann"
    api.ok("POST", user, {"password": "x", "token_ttl": "1h", "token_max_ttl": "2h", "token_policies": "a"})
    made = login(server, f"{path}/login/ann", {"password": "x"}).json["auth"]
    assert made["lease_duration"] == 3600
    with server.api(made["client_token"]) as owner:
        longer = owner.post("auth/token/renew-self", {"increment": "5h"})
        assert longer.json["auth"]["lease_duration"] in {7199, 7200}
        assert "capped" in longer.json["warnings"][0]
        api.ok("POST", user, {"token_policies": "b"})
        assert owner.post("auth/token/renew-self").errors == ["policies have changed, not renewing"]
        api.ok("DELETE", user)
        assert "does not exist any more" in owner.post("auth/token/renew-self").errors[0]
        assert owner.get("auth/token/lookup-self").status == 200, "it ends when it ends"


def test_a_removed_mount_takes_its_tokens_along_at_once(server: DevServer, api: Api, auth: Enabler) -> None:
    path = auth("userpass")
    api.ok("POST", f"auth/{path}/users/ann", {"password": "x", "token_policies": "default"})
    tokens = [
        login(server, f"{path}/login/ann", {"password": "x"}).json["auth"]["client_token"] for _ in range(3)
    ]
    with server.api(tokens[0]) as owner:
        child = owner.post("auth/token/create", {"ttl": "1h"})
        assert child.status == 403, "default grants no creation"
    api.ok("DELETE", f"sys/auth/{path}")
    for token in tokens:
        with server.api(token) as owner:
            assert owner.get("auth/token/lookup-self").status == 403
    assert login(server, f"{path}/login/ann", {"password": "x"}).status in {403, 404}
    api.ok("POST", f"sys/auth/{path}", {"type": "userpass"})
    assert login(server, f"{path}/login/ann", {"password": "x"}).errors == [WRONG], "a new mount is empty"


def test_auth_mounts(api: Api) -> None:
    path = f"team/{secrets.token_hex(4)}"
    config = {"default_lease_ttl": "1h", "max_lease_ttl": "2h"}
    api.ok("POST", f"sys/auth/{path}", {"type": "userpass", "description": "d", "config": config})
    shown = api.get(f"sys/auth/{path}").data
    assert (shown["type"], shown["config"]["default_lease_ttl"], shown["config"]["token_type"]) == (
        "userpass",
        3600,
        "default-service",
    )
    assert shown["accessor"].startswith("auth_userpass_")
    assert f"{path}/" in api.get("sys/auth").data
    api.ok("POST", f"sys/auth/{path}/tune", {"max_lease_ttl": "90m"})
    assert api.get(f"sys/auth/{path}/tune").data["max_lease_ttl"] == 5400
    assert api.post(f"sys/auth/{path}", {"type": "userpass"}).errors == [f"path is already in use at {path}/"]
    assert api.post("sys/auth/x", {"type": "nope"}).errors == ["plugin not found in the catalog: nope"]
    assert api.post(f"sys/mounts/{path}", {"type": "userpass"}).errors == [
        "plugin not found in the catalog: userpass"
    ]
    assert api.get("sys/auth/none").errors == ["No auth engine at none/"]
    assert api.delete("sys/auth/token").errors == ["token credential backend cannot be disabled"]
    assert api.delete(f"sys/auth/{path}").status == 204
    assert api.delete(f"sys/auth/{path}").status == 204


def test_bao_logs_in_with_a_token_and_keeps_it(server: DevServer, api: Api, tmp_path: Path) -> None:
    """As a person does: the token comes over stdin, lands in ~/.vault-token, and the next command uses it."""
    asked = {"policies": ["default"], "display_name": "ann"}
    token = api.post("auth/token/create", asked).json["auth"]["client_token"]
    person = Bao(server.address, "", tmp_path)
    del person.environment["BAO_TOKEN"]
    assert token not in person("login", "-no-print", "-", stdin=token)
    assert (tmp_path / ".vault-token").read_text() == token
    assert json.loads(person("token", "lookup", "-format=json"))["data"]["display_name"] == "token-ann"
    assert person.run("list", "sys/policies/acl").returncode == 2
    person("token", "revoke", "-self")
    assert "permission denied" in person.run("token", "lookup").stderr
    assert person.run("login", "-", stdin=token).returncode == 2


@pytest.mark.parametrize(("verb", "kind"), [("auth", "userpass"), ("secrets", "transit")])
def test_what_bao_does_not_tune_stays(bao: Bao, verb: str, kind: str) -> None:
    """The command line sends both lifetimes with every tuning, empty where nothing was said of them."""
    path = f"tuned-{secrets.token_hex(4)}"
    bao(verb, "enable", f"-path={path}", "-default-lease-ttl=30m", "-max-lease-ttl=2h", kind)
    bao(verb, "tune", "-description=another", f"{path}/")
    bao(verb, "tune", "-max-lease-ttl=3h", f"{path}/")
    if verb == "auth":
        bao(verb, "tune", "-user-lockout-threshold=7", f"{path}/")
    table = "sys/auth" if verb == "auth" else "sys/mounts"
    tuned = bao.json("read", f"{table}/{path}/tune")["data"]
    assert (tuned["description"], tuned["default_lease_ttl"], tuned["max_lease_ttl"]) == (
        "another",
        1800,
        10800,
    )
    bao(verb, "disable", path)


def test_a_second_way_in_is_refused_by_name(server: DevServer, api: Api) -> None:
    """Beside a good token and alone; and nothing of it was done."""
    name = f"inline-{secrets.token_hex(3)}"
    headers = {
        "X-Vault-Inline-Auth-Path": "auth/userpass/login/ann",
        "X-Vault-Inline-Auth-Operation": "update",
    }
    policy = {"policy": 'path "x" { capabilities = ["read"] }'}
    for token in (server.token, ""):
        with server.api(token) as caller:
            answer = caller.call("POST", f"sys/policies/acl/{name}", policy, headers=headers)
        assert answer.status == 400
        assert answer.errors[0].startswith("inline authentication is not available")
    assert api.get(f"sys/policies/acl/{name}").status == 404


# -- approle -------------------------------------------------------------------------------------------


def test_hvac_and_bao_log_in_as_a_role(root: hvac.Client, bao: Bao, auth: Enabler, server: DevServer) -> None:
    path = auth("approle")
    role = root.auth.approle
    role.create_or_update_approle(
        "App", token_policies=["app"], token_ttl="20m", secret_id_num_uses=2, mount_point=path
    )
    assert role.list_roles(mount_point=path)["data"]["keys"] == ["app"]
    role.update_role_id("app", "my-role", mount_point=path)
    assert role.read_role_id("app", mount_point=path)["data"]["role_id"] == "my-role"
    made = role.generate_secret_id("app", metadata={"k": "v"}, mount_point=path)["data"]
    seen = role.read_secret_id("app", made["secret_id"], mount_point=path)["data"]
    assert (seen["metadata"], seen["secret_id_num_uses"]) == ({"k": "v"}, 2)
    assert role.list_secret_id_accessors("app", mount_point=path)["data"]["keys"] == [
        made["secret_id_accessor"]
    ]
    assert role.read_secret_id_accessor("app", made["secret_id_accessor"], mount_point=path)["data"] == seen
    client = hvac.Client(url=server.address)
    got = client.auth.approle.login("my-role", made["secret_id"], mount_point=path)["auth"]
    assert (got["metadata"], got["policies"], got["lease_duration"]) == (
        {"k": "v", "role_name": "app"},
        ["app", "default"],
        1200,
    )
    assert client.auth.token.renew_self()["auth"]["lease_duration"] == 1200
    told = bao(
        "write", "-format=json", f"auth/{path}/login", "role_id=my-role", f"secret_id={made['secret_id']}"
    )
    assert json.loads(told)["auth"]["metadata"]["role_name"] == "app"
    with pytest.raises(hvac.exceptions.InvalidRequest, match=WRONG_ROLE):
        client.auth.approle.login("my-role", made["secret_id"], mount_point=path)
    custom = role.create_custom_secret_id("app", "mine", mount_point=path)["data"]
    role.destroy_secret_id_accessor("app", custom["secret_id_accessor"], mount_point=path)
    role.create_custom_secret_id("app", "mine", mount_point=path)
    role.destroy_secret_id("app", "mine", mount_point=path)
    role.delete_role("app", mount_point=path)
    client.adapter.close()


def test_a_secret_id_comes_wrapped(server: DevServer, api: Api, auth: Enabler) -> None:
    path = auth("approle")
    api.ok("POST", f"auth/{path}/role/ci", {"secret_id_num_uses": 1, "token_policies": "ci"})
    role_id = api.get(f"auth/{path}/role/ci/role-id").data["role_id"]
    sent = api.call("POST", f"auth/{path}/role/ci/secret-id", {}, headers={"X-Vault-Wrap-TTL": "60"})
    with server.api(sent.json["wrap_info"]["token"]) as job:
        secret = job.post("sys/wrapping/unwrap").data["secret_id"]
    body = {"role_id": role_id, "secret_id": secret}
    with server.api("") as anybody:
        wrapped = anybody.call("POST", f"auth/{path}/login", body, headers={"X-Vault-Wrap-TTL": "60"})
    assert wrapped.json["wrap_info"]["wrapped_accessor"], "a login's answer can wait, too"


def test_one_use_is_one_login_whoever_is_asked(server: DevServer, api: Api, auth: Enabler) -> None:
    path = auth("approle")
    api.ok("POST", f"auth/{path}/role/app", {"secret_id_num_uses": 3})
    role_id = api.get(f"auth/{path}/role/app/role-id").data["role_id"]
    secret = api.post(f"auth/{path}/role/app/secret-id").data["secret_id"]
    barrier = threading.Barrier(20)

    def one(_number: int) -> int:
        with server.api("") as client:
            barrier.wait(30)
            return client.post(f"auth/{path}/login", {"role_id": role_id, "secret_id": secret}).status

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(one, range(20)))
    assert statuses.count(200) == 3, statuses
    assert set(statuses) <= {200, 400, 403}


def test_what_a_login_needs(server: DevServer, api: Api, auth: Enabler) -> None:
    path = auth("approle")
    api.ok("POST", f"auth/{path}/role/app", {})
    role_id = api.get(f"auth/{path}/role/app/role-id").data["role_id"]
    for body, text in (
        ({}, "missing role_id"),
        ({"role_id": role_id}, "missing secret_id"),
        ({"role_id": "none", "secret_id": "x"}, WRONG_ROLE),
        ({"role_id": role_id, "secret_id": "x"}, WRONG_ROLE),
    ):
        answer = login(server, f"{path}/login", body)
        assert (answer.status, answer.errors) == (400, [text])
    short = api.post(f"auth/{path}/role/app/secret-id", {"ttl": 1}).data["secret_id"]
    waits = threading.Event()
    for _ in range(30):
        if login(server, f"{path}/login", {"role_id": role_id, "secret_id": short}).status != 200:
            break
        waits.wait(0.1)
    else:
        pytest.fail("the secret ID never expired")
    far = api.post(f"auth/{path}/role/app/secret-id", {"cidr_list": "10.0.0.0/8"}).data["secret_id"]
    assert login(server, f"{path}/login", {"role_id": role_id, "secret_id": far}).status == 403
    assert api.post(f"auth/{path}/role/open", {"bind_secret_id": False}).errors == [
        "at least one constraint should be enabled on the role"
    ]
    api.ok("POST", f"auth/{path}/role/open", {"bind_secret_id": False, "token_bound_cidrs": "127.0.0.0/8"})
    role_id = api.get(f"auth/{path}/role/open/role-id").data["role_id"]
    assert login(server, f"{path}/login", {"role_id": role_id}).status == 200


def test_single_fields_and_bounds(api: Api, auth: Enabler) -> None:
    role = f"auth/{auth('approle')}/role/app"
    api.ok("POST", role, {"secret_id_num_uses": 2, "secret_id_ttl": "10m", "token_policies": "a"})
    fields: dict[str, tuple[str, Any, Any]] = {
        "policies": ("token_policies", ["b"], []),
        "period": ("token_period", 60, 0),
        "token-ttl": ("token_ttl", 60, 0),
        "token-max-ttl": ("token_max_ttl", 120, 0),
        "token-num-uses": ("token_num_uses", 4, 0),
        "token-bound-cidrs": ("token_bound_cidrs", ["10.0.0.0/8"], []),
        "secret-id-bound-cidrs": ("secret_id_bound_cidrs", ["10.0.0.0/8"], None),
    }
    for path, (name, value, default) in fields.items():
        api.ok("POST", f"{role}/{path}", {name: value})
        assert api.get(f"{role}/{path}").data == {name: value}, path
        assert api.post(f"{role}/{path}").errors == [f"missing {name}"]
        api.ok("DELETE", f"{role}/{path}")
        assert api.get(f"{role}/{path}").data == {name: default}
    assert api.get(f"{role}/nonsense").status == 404
    for body in (
        {"num_uses": 0},
        {"num_uses": 3},
        {"ttl": "11m"},
        {"metadata": "no json"},
        {"cidr_list": "x"},
    ):
        assert api.post(f"{role}/secret-id", body).status == 400, body
    assert api.post(f"{role}/secret-id-accessor/lookup", {"secret_id_accessor": "none"}).status == 404
    # No secret ID outlives what its mount lets live; one without an end has none.
    mount = role.removesuffix("/role/app")
    for longest, wanted, given in (
        ("5m", "10m", 300),
        ("5m", "4m", 240),
        ("5m", 0, 0),
        ("system", "10000h", 2764800),
    ):
        api.ok("POST", f"sys/{mount}/tune", {"max_lease_ttl": longest})
        api.ok("POST", role, {"secret_id_ttl": wanted})
        made = api.ok("POST", f"{role}/secret-id")
        assert made["secret_id_ttl"] == given
        shown = api.ok("POST", f"{role}/secret-id/lookup", {"secret_id": made["secret_id"]})
        assert shown["secret_id_ttl"] == given
    assert api.post(f"{role}/secret-id/lookup", {"secret_id": "none"}).status == 204
    other = f"{role}-2"
    api.ok("POST", other, {"role_id": "taken"})
    assert api.post(f"{role}/role-id", {"role_id": "taken"}).status == 400


def test_no_secret_of_a_method_is_stored(server: DevServer, api: Api, auth: Enabler) -> None:
    password, path = secrets.token_hex(16), auth("userpass")
    api.ok("POST", f"auth/{path}/users/ann", {"password": password})
    approle = auth("approle")
    api.ok("POST", f"auth/{approle}/role/app", {})
    secret = api.post(f"auth/{approle}/role/app/secret-id").data["secret_id"]
    login(server, f"{path}/login/ann", {"password": password})
    for file in (*server.data.rglob("*"), server.errors):
        if file.is_file():
            content = file.read_bytes()
            assert password.encode() not in content, file
            assert secret.encode() not in content, file
