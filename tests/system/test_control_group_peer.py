"""The same control group on the real server and on ours: what is alike, and what differs on purpose."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.api import Api
from tests.policy.peer import Peer, running

Send = Callable[[str, str, Any, str], tuple[int, Any]]

RULES = """
path "sys/tools/random/*" { capabilities = ["update"]
  control_group { ttl = "1h"
    factor "ops" { controlled_capabilities = ["update"]
      identity { group_names = ["GROUP"] approvals = 1 } } } }
path "sys/wrapping/*" { capabilities = ["update"] }
path "sys/control-group/*" { capabilities = ["update"] }
"""
# step -> (there, here, why)
DIFFERENT = {
    "unwrap unapproved": (400, 403, "says what is lacking"),
    "authorize own": (500, 403, "a refusal is no failure of the server"),
    "authorize twice": (500, 400, "as above"),
    "authorize as root": (500, 403, "as above"),
    "unwrap again": (200, 400, "a request with consent is carried out once"),
}


@pytest.fixture(scope="module")
def real() -> Iterator[Peer]:
    with running() as server:
        yield server


def steps(send: Send, root: str) -> dict[str, tuple[int, Any]]:
    """One request from asking to unwrapping; each answer by the name of its step."""
    mark = secrets.token_hex(4)
    send("PUT", f"sys/policies/acl/cg-{mark}", {"policy": RULES.replace("GROUP", f"managers-{mark}")}, root)
    send("POST", f"sys/auth/people-{mark}", {"type": "userpass"}, root)
    tokens, entities = {}, {}
    for name in ("joe", "ann", "bob"):
        body = {"password": "pw", "token_policies": [f"cg-{mark}"]}
        send("POST", f"auth/people-{mark}/users/{name}", body, root)
        auth = send("POST", f"auth/people-{mark}/login/{name}", {"password": "pw"}, "")[1]["auth"]
        tokens[name], entities[name] = auth["client_token"], auth["entity_id"]
    members = [entities["joe"], entities["ann"]]
    send("POST", "identity/group", {"name": f"managers-{mark}", "member_entity_ids": members}, root)
    found: dict[str, tuple[int, Any]] = {}
    found["ask"] = send("POST", "sys/tools/random/8", {"format": "hex"}, tokens["joe"])
    info = found["ask"][1]["wrap_info"]
    accessor, token = {"accessor": info["accessor"]}, {"token": info["token"]}

    def step(name: str, path: str, body: Any, credential: str) -> None:
        found[name] = send("POST", path, body, credential)

    step("lookup", "sys/wrapping/lookup", token, tokens["joe"])
    step("request", "sys/control-group/request", accessor, tokens["joe"])
    step("unwrap unapproved", "sys/wrapping/unwrap", token, tokens["joe"])
    step("authorize own", "sys/control-group/authorize", accessor, tokens["joe"])
    step("authorize as nobody asked", "sys/control-group/authorize", accessor, tokens["bob"])
    step("authorize", "sys/control-group/authorize", accessor, tokens["ann"])
    step("authorize twice", "sys/control-group/authorize", accessor, tokens["ann"])
    step("authorize as root", "sys/control-group/authorize", accessor, root)
    step("request approved", "sys/control-group/request", accessor, root)
    step("missing", "sys/control-group/request", {}, root)
    step("invalid", "sys/control-group/request", {"accessor": "x"}, root)
    step("unwrap", "sys/wrapping/unwrap", token, tokens["joe"])
    step("unwrap again", "sys/wrapping/unwrap", token, tokens["joe"])
    send(
        "DELETE", f"sys/policies/acl/cg-{mark}", None, root
    )  # it binds root too, in other tests of this server
    return found


def test_one_request_on_both(real: Peer, api: Api) -> None:
    def here(verb: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        with api.as_token(token) as client:
            answer = client.call(verb, path, body)
            return answer.status, answer.json or None

    theirs, ours = steps(real.call, "root"), steps(here, api.token)
    for name, (status, body) in theirs.items():
        if name in DIFFERENT:
            assert (status, ours[name][0]) == DIFFERENT[name][:2], (name, body, ours[name])
            continue
        assert ours[name][0] == status, (name, body, ours[name])
        if status >= 400:
            assert _texts(ours[name][1]) == _texts(body), name
            continue
        data, mine = body["data"] or {}, ours[name][1]["data"] or {}
        assert set(data) <= set(mine), name
        assert set(body["wrap_info"] or {}) == set(ours[name][1]["wrap_info"] or {}), name
        for key in ("approved", "request_operation", "request_path"):
            assert data.get(key) == mine.get(key), (name, key)
    assert ours["ask"][1]["wrap_info"]["ttl"] == theirs["ask"][1]["wrap_info"]["ttl"] == 3_600
    shown = [answers["request approved"][1]["data"]["authorizations"] for answers in (theirs, ours)]
    assert {len(rows) for rows in shown} == {1}
    assert set(shown[0][0]) == set(shown[1][0])


def _texts(body: Any) -> list[str]:
    return [(text.partition("* ")[2] or text).strip() for text in body["errors"]]
