"""Writing, patching and reading policies: the same requests to the real server and to ours, in one order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kms.clock import SystemClock
from tests.identity.wire import Server
from tests.policy.peer import Peer

A = 'path "a" { capabilities = ["read"] }'
B = 'path "b" { capabilities = ["read"] }'
# What the clock makes, and what differs on purpose: `default` in our words.
VOLATILE = {"modified"}

REQUESTS: list[tuple[str, str, Any]] = [
    ("PUT", "acl/p", {"policy": A, "cas": 5}),
    ("PUT", "acl/p", {"policy": A, "cas": 0}),
    ("PUT", "acl/p", {"policy": A, "cas": -1}),
    ("PUT", "acl/p", {"policy": B, "cas": 1}),
    ("GET", "acl/p", None),
    ("PUT", "acl/q", {"policy": A, "cas_required": True}),
    ("PUT", "acl/q", {"policy": A, "cas": -1, "cas_required": True}),
    ("PUT", "acl/q", {"policy": A}),
    ("PUT", "acl/q", {"policy": A, "cas": 7}),
    ("PATCH", "acl/q", {"policy": B}),
    ("PATCH", "acl/q", {"policy": B, "cas": 1}),
    ("PATCH", "acl/q", {"policy": B, "cas": 2}),
    ("PATCH", "acl/q", {"cas": -1}),
    ("PATCH", "acl/q", {"policy": "nonsense"}),
    ("GET", "acl/q", None),
    ("PATCH", "acl/q", {"cas_required": False}),
    ("PUT", "acl/q", {"policy": A}),
    ("GET", "acl/q", None),
    ("PUT", "acl/r", {"policy": A, "expiration": "2090-01-01T00:00:00Z"}),
    ("GET", "acl/r", None),
    ("PATCH", "acl/r", {"allow_wildcards_in_identity_templates": True}),
    ("GET", "acl/r", None),
    ("PUT", "acl/r", {"policy": A, "expiration": 3786912000}),
    ("PUT", "acl/r", {"policy": A, "expiration": "2020-01-01T00:00:00Z"}),
    ("PUT", "acl/r", {"policy": A, "expiration": "2090-01-01T00:00:00Z", "ttl": "1h"}),
    ("PUT", "acl/r", {"policy": A, "expiration": "soon"}),
    ("PUT", "acl/r", {"policy": A, "ttl": -5}),
    ("PUT", "acl/r", {"policy": A, "ttl": 0}),
    ("PUT", "acl/r", {"policy": A, "allow_slashes_in_identity_templates": True}),
    ("GET", "acl/r", None),
    ("PATCH", "acl/missing", {"policy": A}),
    ("LIST", "acl", None),
    ("DELETE", "acl/q", None),
    ("GET", "acl/q", None),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, SystemClock())
    yield made
    made.close()


def test_policies_are_written_as_on_the_real_server(peer: Peer, server: Server) -> None:
    listed = peer.call("LIST", "sys/policies/acl")[1]["data"]["keys"]
    for name in {*listed, "p", "q", "r"} - {"default", "root"}:
        peer.call("DELETE", f"sys/policies/acl/{name}")
    for method, path, body in REQUESTS:
        theirs = peer.call(method, f"sys/policies/{path}", body)
        ours = server.call(method, f"sys/policies/{path}", body)
        assert _plain(ours) == _plain(theirs), (method, path, body)


def _plain(answer: tuple[int, Any]) -> tuple[int, Any]:
    status, body = answer
    if body is None or "errors" in body:
        # Texts about a policy that cannot be parsed are ours.
        return status, [text.split(":")[0] for text in (body or {}).get("errors", [])]
    data = {name: value for name, value in (body["data"] or {}).items() if name not in VOLATILE}
    if "keys" in data:
        data["keys"] = [name for name in data["keys"] if name != "auditor"]  # ours alone
    if "expiration" in data:
        data["expiration"] = str(data["expiration"]).replace(".000000Z", "Z")
    return status, data


def test_what_expires_is_gone_for_everybody(server: Server) -> None:
    assert server.call("PUT", "sys/policies/acl/brief", {"policy": A, "ttl": "1h"})[0] == 204
    policies = server.first.policies
    assert policies.exists("brief")
    assert not policies.expired()
    token = server.token(policies=["brief"])
    ask = ("POST", "sys/capabilities-self", {"paths": ["a"]}, token)
    assert server.call(*ask)[1]["data"]["a"] == ["read"]
    later = Later(server.clock.now() + 3_600)
    for part in (policies, server.first.tokens):
        part._clock = later
    assert server.call(*ask)[1]["data"]["a"] == ["deny"]
    assert server.call("GET", "sys/policies/acl/brief")[0] == 404
    assert policies.expired()
    assert policies.reap() == 1
    assert policies.reap() == 0


def test_a_policy_that_expired_may_be_written_anew(server: Server) -> None:
    assert (
        server.call("PUT", "sys/policies/acl/brief", {"policy": A, "ttl": "1h", "cas_required": True})[0]
        == 400
    )
    body = {"policy": A, "ttl": "1h", "cas_required": True, "cas": -1}
    assert server.call("PUT", "sys/policies/acl/brief", body)[0] == 204
    server.first.policies._clock = Later(server.clock.now() + 3_600)
    assert server.call("PUT", "sys/policies/acl/brief", {"policy": B})[0] == 204
    data = server.call("GET", "sys/policies/acl/brief")[1]["data"]
    assert (data["version"], data["policy"], "expiration" in data) == (1, B, False)


def test_a_rule_that_expires_is_compiled_out(server: Server) -> None:
    at = server.clock.now() + 60
    text = f'path "a" {{ capabilities = ["read"] expiration = {int(at)} }}\n{B}'
    server.policy("mixed", text)
    policies = server.first.policies
    acl = policies.acl_for(("mixed",))
    assert (acl.find("a") is not None, acl.valid_until) == (True, int(at))
    policies._clock = Later(at)
    acl = policies.acl_for(("mixed",))
    assert (acl.find("a"), acl.find("b") is not None, acl.valid_until) == (None, True, 0.0)


def test_all_policies_with_their_facts(server: Server) -> None:
    server.policy("p", A)
    data = server.call("LIST", "sys/policies/detailed/acl")[1]["data"]
    assert data["keys"] == ["auditor", "default", "p", "root"]
    assert data["key_info"]["p"]["policy"] == A
    assert data["key_info"]["root"]["version"] == 0


class Later(SystemClock):
    """A clock that stands at one moment."""

    def __init__(self, moment: float) -> None:
        self._moment = moment

    def now(self) -> float:
        return self._moment
