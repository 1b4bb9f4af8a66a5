"""The same requests to the real server and to ours: statuses, texts and shapes must be the same."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.dev import DevServer
from tests.sys.sides import Side, real_server

STRICTER = "refused here, taken there"
OWN_CODE = "400 here, where the peer says 500 to the caller's mistake"
OWN_TEXT = "the same refusal in other words"
NAMES = frozenset({"random_bytes", "migration_id", "accessor", "uuid", "timestamp_installed", "hostname"})


@dataclass(frozen=True)
class Case:
    """One request. `{m}` in it is a mount of this run.

    Args:
        allowed: how the answers may differ.
        loose: compare the shape of the data and not its values.
    """

    verb: str
    path: str
    body: Any = None
    allowed: str = ""
    loose: bool = False
    token: str | None = None


def get(path: str, **more: Any) -> Case:
    return Case("GET", path, **more)


def post(path: str, body: Any = None, **more: Any) -> Case:
    return Case("POST", path, body or {}, **more)


def delete(path: str, **more: Any) -> Case:
    return Case("DELETE", path, **more)


TOOLS = [
    post("sys/tools/random"),
    post("sys/tools/random/16"),
    post("sys/tools/random/all/16", {"format": "hex"}),
    post("sys/tools/random/platform/16", {"format": "x"}),
    post("sys/tools/random", {"bytes": 0}),
    post("sys/tools/random", {"bytes": 200_000}),
    post("sys/tools/random/x/8"),
    get("sys/tools/random"),
    post("sys/tools/hash"),
    post("sys/tools/hash", {"input": "YWJj"}),
    post("sys/tools/hash/sha2-512", {"input": "YWJj", "format": "base64"}),
    post("sys/tools/hash", {"input": "YWJj", "algorithm": "sha3-256"}),
    post("sys/tools/hash/nope", {"input": "YWJj"}),
    post("sys/tools/hash", {"input": "!"}),
    post("sys/tools/hash", {"input": "YWJj", "format": "q"}),
]
CORS = [
    delete("sys/config/cors"),
    get("sys/config/cors"),
    post("sys/config/cors", allowed=OWN_CODE),
    post("sys/config/cors", {"allowed_origins": ["*", "http://a.test"]}, allowed=OWN_CODE),
    post("sys/config/cors", {"enable": False}, allowed=OWN_CODE),
    post("sys/config/cors", {"allowed_origins": "*"}),
    get("sys/config/cors"),
    post("sys/config/cors", {"allowed_origins": ["http://a.test"], "allowed_headers": "X-A"}),
    get("sys/config/cors"),
    delete("sys/config/cors"),
    get("sys/config/cors"),
]
HEADERS = [
    Case("LIST", "sys/config/ui/headers"),
    get("sys/config/ui/headers", allowed=""),
    post("sys/config/ui/headers/X-Custom", {"values": ["a", "b"]}),
    get("sys/config/ui/headers/X-Custom"),
    get("sys/config/ui/headers/X-Custom?multivalue=true"),
    post("sys/config/ui/headers/X-Vault-Foo", {"values": ["a"]}),
    post("sys/config/ui/headers/X-E"),
    post("sys/config/ui/headers/x-lower", {"values": "q,r"}),
    get("sys/config/ui/headers/x-LOWER"),
    Case("LIST", "sys/config/ui/headers"),
    delete("sys/config/ui/headers/X-Custom"),
    delete("sys/config/ui/headers/x-lower"),
    get("sys/config/ui/headers/X-Custom"),
    delete("sys/config/ui/headers/X-None"),
    get("sys/config/auditing/request-headers"),
    post("sys/config/auditing/request-headers/X-Foo", {"hmac": True}),
    post("sys/config/auditing/request-headers/X-Bar"),
    get("sys/config/auditing/request-headers"),
    get("sys/config/auditing/request-headers/x-foo"),
    get("sys/config/auditing/request-headers/none"),
    post("sys/config/auditing/request-headers/x-vault-token", allowed=STRICTER),
    post("sys/config/auditing/request-headers/Bad%20H", allowed=STRICTER),
    delete("sys/config/auditing/request-headers/X-FOO"),
    delete("sys/config/auditing/request-headers/X-Bar"),
    delete("sys/config/auditing/request-headers/none"),
]
LOGGERS = [
    get("sys/loggers/nope"),
    post("sys/loggers/nope", {"level": "debug"}),
    post("sys/loggers/nope"),
    post("sys/loggers", {"level": "x"}),
    post("sys/loggers"),
    delete("sys/loggers/nope"),
    post("sys/loggers", {"level": "warn"}),
    delete("sys/loggers"),
]
UNSAID = {"options": None, "default_lease_ttl": "", "max_lease_ttl": "", "force_no_cache": False}
"""What the command line sends with every tuning, whatever it is about."""
MOUNTS = [
    post("sys/mounts/{m}", {"type": "transit"}),
    get("sys/mounts/{m}/tune"),
    post("sys/mounts/{m}/tune", {"description": "d", "token_type": "service"}),
    post(
        "sys/mounts/{m}/tune",
        {
            "default_lease_ttl": "1h",
            "max_lease_ttl": "2h",
            "description": "dd",
            "audit_non_hmac_request_keys": ["a", "b"],
            "audit_non_hmac_response_keys": "c,d",
            "listing_visibility": "unauth",
            "passthrough_request_headers": ["X-A"],
            "allowed_response_headers": ["X-B", "*"],
        },
    ),
    get("sys/mounts/{m}/tune"),
    get("sys/mounts/{m}"),
    post("sys/mounts/{m}/tune", {"description": "as bao sends it", **UNSAID}),
    get("sys/mounts/{m}/tune"),
    post("sys/mounts/{m}/tune", {"listing_visibility": "bogus"}),
    post("sys/mounts/{m}/tune", {"default_lease_ttl": "3h"}),
    post("sys/mounts/{m}/tune", {"default_lease_ttl": "-3h"}, allowed=STRICTER),
    post("sys/mounts/{m}/tune", {"default_lease_ttl": "x"}, allowed=OWN_TEXT),
    post("sys/mounts/{m}/tune", {"default_lease_ttl": "system", "max_lease_ttl": "system"}),
    post("sys/mounts/{m}/tune", {"plugin_version": "v9.0.0"}),
    post("sys/mounts/{m}/tune"),
    get("sys/mounts/{m}/tune"),
    post(
        "sys/mounts/{m}/tune",
        {
            "listing_visibility": "hidden",
            "audit_non_hmac_request_keys": [],
            "audit_non_hmac_response_keys": [],
            "passthrough_request_headers": [],
            "allowed_response_headers": [],
        },
    ),
    get("sys/mounts/{m}/tune"),
    post("sys/mounts/no-such-mount/tune", {"description": "x"}),
    get("sys/mounts/no-such-mount/tune"),
    post("sys/mounts/sys/tune", {"description": "q"}),
    post("sys/mounts/cubbyhole/tune", {"default_lease_ttl": "1h"}),
    post("sys/mounts/{m}-2", {"type": "transit", "config": {"listing_visibility": "zz"}}),
    post(
        "sys/mounts/{m}-2", {"type": "transit", "config": {"default_lease_ttl": "3h", "max_lease_ttl": "1h"}}
    ),
    post(
        "sys/mounts/{m}-2",
        {
            "type": "transit",
            "config": {"passthrough_request_headers": ["X-A"], "audit_non_hmac_request_keys": ["x"]},
            "local": True,
        },
    ),
    get("sys/mounts/{m}-2"),
    post("sys/auth/{m}-up", {"type": "userpass"}),
    get("sys/auth/{m}-up/tune"),
    post("sys/auth/{m}-up/tune", {"token_type": "zz"}),
    post("sys/auth/{m}-up/tune", {"token_type": "service", "listing_visibility": "unauth"}),
    get("sys/auth/{m}-up/tune"),
    get("sys/auth/{m}-up"),
    post("sys/auth/{m}-up/tune", {"default_lease_ttl": "30m", "max_lease_ttl": "2h"}),
    post("sys/auth/{m}-up/tune", {"user_lockout_config": {"lockout_threshold": "7"}, **UNSAID}),
    get("sys/auth/{m}-up/tune"),
    get("sys/auth/{m}-up"),
    post(
        "sys/auth/{m}-up2",
        {"type": "userpass", "config": {"user_lockout_config": {"lockout_threshold": "2"}}},
    ),
    post(
        "sys/mounts/{m}-2b",
        {"type": "transit", "config": {"user_lockout_config": {"lockout_threshold": "2"}}},
    ),
    get("sys/auth/{m}-up2"),
    post("sys/auth/{m}-up2", {"type": "userpass", "config": {"default_lease_ttl": "system"}}),
    get("sys/auth/{m}-up2/tune"),
    post("sys/auth/token/tune", {"token_type": "service"}),
]
REMOUNT = [
    post("sys/mounts/{m}", {"type": "transit"}),
    post("sys/mounts/{m}-other", {"type": "transit"}),
    post("sys/remount"),
    post("sys/remount", {"from": "no-such-mount", "to": "x"}),
    post("sys/remount", {"from": "sys", "to": "x"}),
    post("sys/remount", {"from": "{m}", "to": "sys"}),
    post("sys/remount", {"from": "{m}", "to": "{m}-other"}),
    post("sys/remount", {"from": "{m}", "to": "auth/foo"}),
    post("sys/remount", {"from": "auth/token", "to": "auth/foo"}),
    post("sys/remount", {"from": "cubbyhole", "to": "cc"}),
    post("sys/remount", {"from": "{m}", "to": "cubbyhole/a"}),
    post("sys/remount", {"from": "{m}", "to": "identity"}),
    post("sys/remount", {"from": "", "to": "ab"}),
    post("sys/remount", {"from": "{m}", "to": "a b"}, allowed=STRICTER),
    get("sys/remount/status/nope"),
]
FACTS = [
    get("sys/internal/ui/resultant-acl"),
    get("sys/internal/ui/feature-flags"),
    get("sys/internal/counters/activity"),
    get("sys/internal/counters/config"),
    get("sys/internal/counters/entities", loose=True),
    get("sys/internal/counters/tokens", loose=True),
    get("sys/internal/counters/requests"),
    get("sys/internal/counters/nope"),
    get("sys/plugins/catalog/secret/transit", loose=True),
    get("sys/plugins/catalog/secret/nope"),
    Case("LIST", "sys/plugins/catalog/nope"),
    get("sys/plugins/catalog/secret"),
    Case("LIST", "sys/plugins/catalog/secret", loose=True),
    get("sys/ha-status", loose=True),
    get("sys/key-status", loose=True),
    get("sys/monitor?log_level=bogus"),
    get("sys/monitor?log_format=bogus"),
    post("sys/monitor"),
    post("sys/config/reload/nope"),
    post("sys/config/reload/license"),
    get("sys/config/reload/license"),
    get("sys/internal/ui/mounts", token="wrong"),
    get("sys/internal/ui/mounts/no-such-mount"),
    get("sys/internal/ui/mounts/cubbyhole", token=""),
]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    with real_server(tmp_path_factory.mktemp("bao")) as side:
        yield side


@pytest.fixture
def ours(server: DevServer) -> Iterator[Side]:
    side = Side(server.address, server.token)
    yield side
    side.close()


def filled(value: Any, mount: str) -> Any:
    if isinstance(value, str):
        return value.replace("{m}", mount)
    if isinstance(value, list):
        return [filled(each, mount) for each in value]
    if isinstance(value, dict):
        return {name: filled(each, mount) for name, each in value.items()}
    return value


def shape(value: Any, name: str = "", *, loose: bool) -> Any:
    """What must be the same: values, but of names that are anybody's own only their types."""
    if isinstance(value, dict):
        return {key: shape(each, key, loose=loose) for key, each in value.items()}
    if isinstance(value, list):
        return type(value).__name__ if loose else sorted(value, key=str)
    if loose or name in NAMES:
        return type(value).__name__
    if name in {"running_plugin_version", "version"}:
        return "a version"
    return value


def told(answer: tuple[int, Any], case: Case) -> tuple[int, Any, Any]:
    status, body = answer
    if not isinstance(body, dict):
        return status, body, None
    data = body.get("data") if "data" in body or "errors" in body else body
    if isinstance(data, dict) and data.get("options") == {}:
        data = {**data, "options": None}  # none is {} in mounts of theirs and null in ours
    return status, shape(data, loose=case.loose), body.get("errors")


def differences(ours: Side, theirs: Side, cases: list[Case]) -> list[str]:
    found = []
    mount = f"m-{secrets.token_hex(3)}"
    for case in cases:
        path, body = filled(case.path, mount), filled(case.body, mount)
        here = told(ours.ask(case.verb, path, body, token=case.token), case)
        there = told(theirs.ask(case.verb, path, body, token=case.token), case)
        if here == there and case.allowed != STRICTER:
            continue
        if case.allowed == STRICTER and here[0] == 400 and there[0] < 400:
            continue
        if case.allowed == OWN_CODE and here[0] == 400 and there[0] == 500 and here[2] == there[2]:
            continue
        if case.allowed == OWN_TEXT and here[0] == there[0]:
            continue
        found.append(f"{case.verb} {path} {body}\n  here  {here}\n  there {there}")
    return found


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(cases, id=name)
        for name, cases in {
            "tools": TOOLS,
            "cors": CORS,
            "headers": HEADERS,
            "loggers": LOGGERS,
            "mounts": MOUNTS,
            "remount": REMOUNT,
            "facts": FACTS,
        }.items()
    ],
)
def test_the_same_answers(ours: Side, theirs: Side, cases: list[Case]) -> None:
    """All but what is named in the tables above."""
    found = differences(ours, theirs, cases)
    assert not found, "\n".join(found)


LIMITED = """
path "a/*" { capabilities = ["read", "list"] }
path "a/b" { capabilities = ["deny"] }
path "c/+/d" { capabilities = ["update", "sudo"] }
path "e" { capabilities = ["create"] allowed_parameters = { "x" = ["1", "2"] } required_parameters = ["q"]
  denied_parameters = { "z" = [] } min_wrapping_ttl = "1m" max_wrapping_ttl = 3600 }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }
"""


def test_the_callers_rules_are_shown_as_the_peer_shows_them(ours: Side, theirs: Side) -> None:
    shown = []
    for side in (ours, theirs):
        status, body = side.ask(
            "GET", "sys/internal/ui/resultant-acl", token=side.token(LIMITED, "resultant")
        )
        assert status == 200, body
        shown.append(body["data"])
    # The peer leaves out patterns with '+'.
    assert shown[0]["glob_paths"].pop("c/+/d") == {"capabilities": ["sudo", "update"]}
    assert shown[0] == shown[1]


def test_mounts_that_are_listed_for_everybody(ours: Side, theirs: Side) -> None:
    """Without a token: description, options and type of those, and of no other."""
    mount = f"open-{secrets.token_hex(3)}"
    shown = []
    for side in (ours, theirs):
        config = {"listing_visibility": "unauth"}
        side.data("POST", f"sys/mounts/{mount}", {"type": "transit", "description": "d", "config": config})
        status, body = side.ask("GET", "sys/internal/ui/mounts", token="")
        assert status == 200, body
        assert f"{mount}/" in body["data"]["secret"]
        assert "cubbyhole/" not in body["data"]["secret"]
        shown.append(body["data"]["secret"][f"{mount}/"])
    assert shown[0] == shown[1]


def test_remount_moves_all_that_the_mount_holds(ours: Side, theirs: Side) -> None:
    """The same ciphertext opens at the new path, the old one is gone, and the status says so."""
    old, new = f"old-{secrets.token_hex(3)}", f"new/{secrets.token_hex(3)}"
    for side in (ours, theirs):
        side.data("POST", f"sys/mounts/{old}", {"type": "transit"})
        side.data("POST", f"{old}/keys/k", {})
        ciphertext = side.data("POST", f"{old}/encrypt/k", {"plaintext": "aGVsbG8="})["ciphertext"]
        accessor = side.data("GET", f"sys/mounts/{old}")["accessor"]
        migration = side.data("POST", "sys/remount", {"from": old, "to": new})["migration_id"]
        status = side.data("GET", f"sys/remount/status/{migration}")
        while status["migration_info"]["status"] == "in-progress":  # theirs moves in the background
            status = side.data("GET", f"sys/remount/status/{migration}")
        info = {"source_mount": f"{old}/", "target_mount": f"{new}/", "status": "success"}
        assert status == {"migration_id": migration, "migration_info": info}
        assert side.data("POST", f"{new}/decrypt/k", {"ciphertext": ciphertext}) == {"plaintext": "aGVsbG8="}
        assert side.data("GET", f"sys/mounts/{new}")["accessor"] == accessor
        assert side.ask("GET", f"{old}/keys/k")[0] == 404


def test_pages_of_allowed_origins_are_answered(ours: Side, theirs: Side) -> None:
    """Statuses and CORS headers of plain and preflight requests, with every connection of ours its own worker's."""
    kept = ("access-control-allow-origin", "access-control-allow-methods", "vary", "access-control-max-age")
    seen: list[list[Any]] = []
    for side in (ours, theirs):
        side.data("POST", "sys/config/cors", {"allowed_origins": ["http://a.test"], "allowed_headers": "X-A"})
        rows: list[Any] = []
        try:
            for method, origin, wanted in (
                ("GET", "http://a.test", ""),
                ("GET", "http://b.test", ""),
                ("OPTIONS", "http://a.test", "POST"),
                ("OPTIONS", "http://a.test", "PURGE"),
                ("OPTIONS", "http://b.test", "POST"),
                ("OPTIONS", "http://a.test", ""),
                ("LIST", "http://a.test", ""),
            ):
                headers = {"Origin": origin, "Connection": "close", "X-Vault-Token": side.root}
                if wanted:
                    headers["Access-Control-Request-Method"] = wanted
                answer = side.client.request(method, "sys/policies/acl", headers=headers)
                rows.append((answer.status_code, {name: answer.headers.get(name) for name in kept}))
        finally:
            side.data("DELETE", "sys/config/cors")
        seen.append(rows)
    assert seen[0] == seen[1]


def test_a_setting_is_in_force_in_every_worker_at_once(ours: Side) -> None:
    """Twenty fresh connections after each change: none of four workers lags behind."""

    def told_origin() -> set[str | None]:
        headers = {"Origin": "http://a.test", "Connection": "close"}
        answers = (ours.client.get("sys/health", headers=headers) for _ in range(20))
        return {answer.headers.get("access-control-allow-origin") for answer in answers}

    ours.data("POST", "sys/config/cors", {"allowed_origins": ["http://a.test"]})
    try:
        assert told_origin() == {"http://a.test"}
    finally:
        ours.data("DELETE", "sys/config/cors")
    assert told_origin() == {None}


def test_a_log_level_is_in_force_in_every_worker_at_once(ours: Side) -> None:
    try:
        ours.data("POST", "sys/loggers/worker", {"level": "err"})
        for _ in range(20):
            _, body = ours.ask("GET", "sys/loggers/worker", Connection="close")
            assert body["data"] == {"worker": "error"}
    finally:
        ours.data("DELETE", "sys/loggers/worker")
    assert ours.data("GET", "sys/loggers")["worker"] == "info"


def test_what_the_host_is(ours: Side, theirs: Side) -> None:
    """The same machine: the same sections, and the same processors and kernel in them."""
    here, there = ours.data("GET", "sys/host-info"), theirs.data("GET", "sys/host-info")
    assert set(here) == set(there)
    assert [one["modelName"] for one in here["cpu"]] == [one["modelName"] for one in there["cpu"]]
    assert set(there["cpu"][0]) <= set(here["cpu"][0])
    for name in ("hostname", "kernelVersion", "platform", "os", "kernelArch"):
        assert here["host"][name] == there["host"][name], name
    assert here["memory"]["total"] == there["memory"]["total"]


def test_metrics_in_both_forms(ours: Side, theirs: Side) -> None:
    for side in (ours, theirs):
        status, body = side.ask("GET", "sys/metrics")
        assert status == 200
        assert set(body) == {"Timestamp", "Gauges", "Points", "Counters", "Samples"}
        assert "# TYPE" in side.ask("GET", "sys/metrics?format=prometheus")[1]
        assert side.ask("GET", "sys/metrics?format=zzz")[0] == 400
    names = {one["Name"] for one in ours.ask("GET", "sys/metrics")[1]["Counters"]}
    assert "keystead.requests_total" in names


def test_this_version_is_on_record(ours: Side, theirs: Side) -> None:
    for side in (ours, theirs):
        listed = side.data("LIST", "sys/version-history")
        assert listed["keys"]
        assert {"previous_version", "timestamp_installed"} <= set(listed["key_info"][listed["keys"][0]])


def test_plugins_are_those_that_can_be_mounted(ours: Side, tmp_path: Path) -> None:
    del tmp_path
    catalog = ours.data("GET", "sys/plugins/catalog")
    for name in catalog["secret"]:
        assert ours.ask("POST", f"sys/mounts/p-{secrets.token_hex(3)}", {"type": name})[0] == 204
    for name in catalog["auth"]:
        assert ours.ask("POST", f"sys/auth/p-{secrets.token_hex(3)}", {"type": name})[0] == 204


def test_remount_ends_what_the_login_issued(ours: Side, theirs: Side) -> None:
    old, new = f"up-{secrets.token_hex(3)}", f"up-{secrets.token_hex(3)}"
    for side in (ours, theirs):
        side.data("POST", f"sys/auth/{old}", {"type": "userpass"})
        side.data("POST", f"auth/{old}/users/kim", {"password": "correct horse 7"})
        status, body = side.ask("POST", f"auth/{old}/login/kim", {"password": "correct horse 7"}, token="")
        assert status == 200, body
        token = body["auth"]["client_token"]
        assert side.ask("GET", "auth/token/lookup-self", token=token)[0] == 200
        moved = side.data("POST", "sys/remount", {"from": f"auth/{old}", "to": f"auth/{new}"})
        path = f"sys/remount/status/{moved['migration_id']}"
        while side.data("GET", path)["migration_info"]["status"] == "in-progress":
            continue
        assert side.ask("GET", "auth/token/lookup-self", token=token)[0] == 403
        assert side.ask("POST", f"auth/{new}/login/kim", {"password": "correct horse 7"}, token="")[0] == 200
