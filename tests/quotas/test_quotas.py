"""Quotas over four workers: exactly so many pass; the most special rule decides; answers as the real server's."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import hvac
import pytest

from kms.system.quotas.limiter import client_of
from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer
from tests.harness.processes import wait_for
from tests.policy.peer import Peer, running

RULES = "sys/quotas/rate-limit"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    made = DevServer(tmp_path_factory.mktemp("quotas"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def api(server: DevServer) -> Iterator[Api]:
    with server.api() as made:
        yield made
        for name in made.list(RULES).json.get("data", {}).get("keys", []):
            made.delete(f"{RULES}/{name}")
        made.ok("POST", "sys/quotas/config", {"rate_limit_exempt_paths": []})


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with running() as started:
        yield started


def transit(api: Api) -> str:
    path = f"t-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/mounts/{path}", {"type": "transit"})
    return path


def ask(server: DevServer, path: str, verb: str = "LIST") -> Answer:
    """Over a new connection."""
    with server.api() as caller:
        return caller.call(verb, path)


def test_exactly_so_many_pass_over_all_workers(server: DevServer, api: Api) -> None:
    path = transit(api)
    api.ok("POST", f"{RULES}/exact", {"rate": 20, "interval": "10m", "path": path})
    said: list[int] = []

    def work() -> None:
        said.extend(ask(server, f"{path}/keys").status for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == [404] * 20 + [429] * 60


def test_what_is_refused_is_told_when_to_come_back(server: DevServer, api: Api) -> None:
    path = transit(api)
    api.ok("POST", "sys/quotas/config", {"enable_rate_limit_response_headers": True})
    api.ok("POST", f"{RULES}/told", {"rate": 1.5, "interval": "100s", "path": f"{path}/"})
    first, second, third = (ask(server, f"{path}/keys") for _ in range(3))
    assert [answer.headers["x-ratelimit-remaining"] for answer in (first, second, third)] == ["1", "0", "0"]
    assert third.status == 429
    assert third.errors == [f'request path "{path}/keys/": rate limit quota exceeded']
    assert third.headers["x-ratelimit-limit"] == "2"
    assert 90 <= int(third.headers["x-ratelimit-reset"]) <= 100
    assert 90 <= int(third.headers["retry-after"]) <= 100
    assert "retry-after" not in first.headers
    api.ok("POST", "sys/quotas/config", {})
    fourth = ask(server, f"{path}/keys")
    assert "x-ratelimit-limit" not in fourth.headers
    assert int(fourth.headers["retry-after"]) > 0


def test_a_window_ends_and_a_changed_rule_begins_anew(server: DevServer, api: Api) -> None:
    path = transit(api)
    api.ok("POST", f"{RULES}/short", {"rate": 1, "interval": "2s", "path": path})
    assert ask(server, f"{path}/keys").status == 404
    wait_for(lambda: ask(server, f"{path}/keys").status == 404, 30, "a new window")
    api.ok("POST", f"{RULES}/short", {"rate": 2, "interval": "10m", "path": path})
    assert [ask(server, f"{path}/keys").status for _ in range(3)] == [404, 404, 429]
    api.ok("POST", f"{RULES}/short", {"rate": 1, "interval": "1s", "block_interval": "10m", "path": path})
    assert [ask(server, f"{path}/keys").status for _ in range(2)] in ([404, 429], [404, 404])
    api.ok("DELETE", f"{RULES}/short")
    assert [ask(server, f"{path}/keys").status for _ in range(5)] == [404] * 5


def test_the_most_special_rule_decides_alone(server: DevServer, api: Api) -> None:
    path = transit(api)
    for name, rule in {
        "mount": {"rate": 4, "path": path},
        "keys": {"rate": 3, "path": f"{path}/keys/*"},
        "one": {"rate": 2, "path": f"{path}/keys/one"},
    }.items():
        api.ok("POST", f"{RULES}/{name}", {**rule, "interval": "10m"})

    def passes(where: str, tries: int = 6) -> int:
        return [ask(server, f"{path}/{where}", "GET").status for _ in range(tries)].count(404)

    assert passes("keys/one") == 2
    assert passes("keys/two") == 3
    assert passes("keys/three") == 0
    assert passes("export/encryption-key/x") == 4
    assert passes("keys/one") == 0
    assert ask(server, "cubbyhole/x", "GET").status == 404


def test_logins_of_one_role_are_counted_by_themselves(server: DevServer, api: Api) -> None:
    path = f"ar-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/auth/{path}", {"type": "approle"})
    ids = []
    for role in ("busy", "quiet"):
        api.ok("POST", f"auth/{path}/role/{role}", {"token_policies": "default"})
        role_id = api.get(f"auth/{path}/role/{role}/role-id").data["role_id"]
        ids.append(
            {
                "role_id": role_id,
                "secret_id": api.post(f"auth/{path}/role/{role}/secret-id").data["secret_id"],
            }
        )
    api.ok("POST", f"{RULES}/role", {"rate": 2, "interval": "10m", "path": f"auth/{path}", "role": "busy"})
    said = []
    for body in (ids[0], ids[0], ids[0], ids[1], ids[1], ids[1]):
        with server.api("") as caller:
            said.append(caller.post(f"auth/{path}/login", body).status)
    assert said == [200, 200, 429, 200, 200, 200]


def test_exempt_paths_are_not_counted(server: DevServer, api: Api) -> None:
    path = transit(api)
    exempt = ["sys/health", f"{path}/keys/"]
    api.ok("POST", "sys/quotas/config", {"rate_limit_exempt_paths": exempt})
    api.ok("POST", f"{RULES}/none", {"rate": 1, "interval": "10m", "path": path})
    assert [ask(server, f"{path}/keys/x", "GET").status for _ in range(4)] == [404] * 4
    assert api.get("sys/quotas/config").data["rate_limit_exempt_paths"] == exempt


def test_a_wrong_token_is_counted_before_it_is_looked_at(server: DevServer, api: Api) -> None:
    path = transit(api)
    api.ok("POST", f"{RULES}/guess", {"rate": 3, "interval": "10m", "path": path})
    said = []
    for number in range(6):
        with server.api(f"hvs.{number:024}") as caller:
            said.append(caller.get(f"{path}/keys/x").status)
    assert said == [403] * 3 + [429] * 3


def test_hvac_reads_and_writes_the_rules(server: DevServer, api: Api) -> None:
    client = hvac.Client(server.address, server.token)
    path = transit(api)
    client.sys.create_or_update_quota("mine", path=path, rate=7, interval="2m", block_interval="3m")
    held = client.sys.read_quota("mine")["data"]
    assert (held["rate"], held["interval"], held["block_interval"]) == (7, 120, 180)
    assert client.sys.list_quotas()["data"]["keys"] == ["mine"]
    client.sys.delete_quota("mine")
    assert api.list(RULES).status == 404


WRITES: tuple[dict[str, Any], ...] = (
    {},
    {"rate": 0},
    {"rate": -1},
    {"rate": 300},
    {"rate": 250.5, "interval": "2s", "block_interval": "3s"},
    {"rate": "300"},
    {"rate": 300, "interval": 0},
    {"rate": 300, "path": "nope/"},
    {"rate": 300, "path": "nope"},
    {"rate": 300, "path": "sys"},
    {"rate": 300, "path": "sys/"},
    {"rate": 300, "path": "sys/health"},
    {"rate": 300, "path": "auth/approle", "role": "r"},
    {"rate": 300, "path": "auth/approle/", "role": "r"},
    {"rate": 300, "path": "auth/approle/login", "role": "r"},
    {"rate": 300, "path": "auth/userpass", "role": "bob"},
    {"rate": 300, "role": "bob"},
    {"rate": 300, "path": "kv/x", "role": "bob"},
    {"rate": 300, "path": "transit/keys/*"},
    {"rate": 300, "path": "transit/keys/a"},
    {"rate": 300, "inheritable": True},
    {"rate": 300, "type": "rate-limit"},
)


def test_rules_are_written_and_shown_as_on_the_real_server(api: Api, peer: Peer) -> None:
    def ours(verb: str, path: str, body: object = None) -> tuple[int, Any]:
        answer = api.call(verb, path, body)
        return answer.status, answer.json or None

    sides: tuple[Callable[..., tuple[int, Any]], ...] = (peer.call, ours)
    told = []
    for call in sides:
        call("POST", "sys/mounts/transit", {"type": "transit"})
        for kind in ("approle", "userpass"):
            call("POST", f"sys/auth/{kind}", {"type": kind})
        said = []
        for body in WRITES:
            said.append((body, call("POST", f"{RULES}/r", body)))
            said.append((body, _shown(call("GET", f"{RULES}/r"))))
            call("DELETE", f"{RULES}/r")
        call("POST", f"{RULES}/first", {"rate": 300, "path": "transit"})
        said.append(({"twice": 1}, call("POST", f"{RULES}/second", {"rate": 300, "path": "transit/"})))
        call("DELETE", f"{RULES}/first")
        said.append(({"gone": 1}, call("DELETE", f"{RULES}/first")))
        said.append(({"none": 1}, call("LIST", RULES)))
        said.append(({"settings": 1}, _shown(call("GET", "sys/quotas/config"))))
        told.append(said)
    for their, our in zip(told[0][:-1], told[1][:-1], strict=True):
        assert our == their


def _shown(answer: tuple[int, Any]) -> tuple[int, Any]:
    return answer[0], (answer[1] or {}).get("data")


@pytest.mark.parametrize(
    ("peer_", "client"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_who_is_one_client(peer_: str, client: str) -> None:
    assert client_of(peer_) == client
