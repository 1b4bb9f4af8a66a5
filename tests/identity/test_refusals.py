"""Requests about tokens that are refused, each with its reason and without a trace."""

from __future__ import annotations

from typing import Any

import pytest

from kms.errors import KmsError
from kms.identity.creation import TokenRequest, born
from kms.identity.model import NEVER, Token
from kms.identity.store import ACCESSORS, TOKENS
from tests.identity.wire import FakeClock, Server

CREATE = "auth/token/create"

# name -> (body of a creation by root, a word of the answer)
BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "batch root": ({"type": "batch"}, "batch tokens cannot be root tokens"),
    "batch of few uses": ({"type": "batch", "policies": ["a"], "num_uses": 3}, '"num_uses"'),
    "batch with a period": ({"type": "batch", "policies": ["a"], "period": "1h"}, '"period"'),
    "batch with an end": (
        {"type": "batch", "policies": ["a"], "explicit_max_ttl": "1h"},
        '"explicit_max_ttl"',
    ),
    "batch too long": (
        {"type": "batch", "policies": ["a"], "meta": {str(n): "x" * 500 for n in range(8)}},
        "4096",
    ),
    "unknown type": ({"type": "weird"}, "invalid 'token_type' value"),
    "negative uses": ({"num_uses": -1}, "cannot be negative"),
    "negative TTL": ({"ttl": "-1h"}, "negative"),
    "TTL of nothing": ({"ttl": "soon"}, "ttl"),
    "entity alias": ({"entity_alias": "x"}, "only allowed in combination"),
    "reserved prefix": ({"id": "hvs.x"}, "prefix"),
    "ID with a newline": ({"id": "a\nb"}, "printable"),
    "ID of a living token": ({"id": "taken"}, "duplicate ID"),
    "policies a number": ({"policies": 5}, "list of policy names"),
    "policies of numbers": ({"policies": [5]}, "list of policy names"),
    "policies an object": ({"policies": {"a": "b"}}, "list of policy names"),
    "policies with a comma": ({"policies": "a,root"}, "invalid policy name"),
    "policy with a blank": ({"policies": ["root "]}, "invalid policy name"),
    "policy too long": ({"policies": ["a" * 129]}, "invalid policy name"),
    "nested meta": ({"meta": {"a": {"b": "c"}}}, "texts only"),
    "too much meta": ({"meta": {str(n): "x" for n in range(65)}}, "at most 64"),
    "long meta": ({"meta": {"a": "x" * 513}}, "512 characters"),
    "meta not pairs": ({"meta": "ab"}, "key pair"),
}


@pytest.mark.parametrize("name", BODIES)
def test_refused_creation_leaves_nothing(server: Server, name: str) -> None:
    server.token(id="taken")
    body, word = BODIES[name]
    count = server.first.store.reader().count
    before = count(TOKENS, {}), count(ACCESSORS, {})
    status, answer = server.call("POST", CREATE, body)
    assert status == 400
    assert word in answer["errors"][0]
    assert (count(TOKENS, {}), count(ACCESSORS, {})) == before


def parent(**changes: Any) -> Token:
    fields: dict[str, Any] = {
        "accessor": "x",
        "parent": "",
        "expires_at": NEVER,
        "policies": ("root",),
        "path": "",
        "display_name": "",
        "created": 0.0,
    }
    return Token(**(fields | changes))


@pytest.mark.parametrize(
    ("held", "request_", "sudo", "word"),
    [
        (parent(num_uses=3), {}, True, "restricted use token"),
        (parent(expires_at=1.0), {}, True, "expiring root tokens"),
        (parent(policies=("app",)), {"no_parent": True}, False, "orphan token"),
        (parent(policies=("app",)), {"period": 60}, False, "periodic token"),
        (parent(policies=("app",)), {"id": "x"}, False, "specify token id"),
        (parent(policies=("app",)), {"policies": ("ops",)}, False, "subset of parent"),
    ],
)
def test_what_a_parent_cannot_give(held: Token, request_: dict[str, Any], word: str, *, sudo: bool) -> None:
    with pytest.raises(KmsError, match=word):
        born(TokenRequest(path=CREATE, **request_), "key", held, role=None, sudo=sudo, now=0.0)


def test_a_long_name_is_cut_and_cleaned(server: Server) -> None:
    token = server.token(display_name="\u00fc\n" + "x" * 400)
    shown = server.call("POST", "auth/token/lookup", {"token": token})[1]["data"]["display_name"]
    assert shown.startswith("token---xxx")
    assert len(shown) == 256


def test_a_lookup_shows_period_role_and_renewal(server: Server, clock: FakeClock) -> None:
    assert server.call("POST", "auth/token/roles/ci", {"path_suffix": "one", "renewable": True})[0] == 204
    made = server.call("POST", f"{CREATE}/ci", {"period": "1h", "policies": ["default"]})[1]["auth"]
    clock.time += 10
    assert server.call("POST", "auth/token/renew-self", {}, made["client_token"])[0] == 200
    shown = server.call("GET", "auth/token/lookup-self", None, made["client_token"])[1]["data"]
    assert (shown["role"], shown["period"], shown["path"]) == ("ci", 3600, f"{CREATE}/ci/one")
    assert shown["last_renewal_time"] == int(clock.time)
    assert shown["ttl"] == 3600


def test_the_caller_without_a_role_is_told_so(server: Server) -> None:
    status, answer = server.call("POST", f"{CREATE}/nosuch", {})
    assert (status, answer) == (400, {"errors": ["unknown role nosuch"]})


@pytest.mark.parametrize("path", ["lookup-accessor", "renew-accessor", "revoke-accessor"])
def test_an_accessor_must_be_given(server: Server, path: str) -> None:
    assert server.call("POST", f"auth/token/{path}", {})[1] == {"errors": ["missing accessor"]}


def test_capabilities_need_paths_and_somebody(server: Server) -> None:
    for body, word in (
        ({"paths": ["a"]}, "no token found"),
        ({"token": server.root}, "paths must be supplied"),
        ({"token": server.root, "paths": ["a"] * 1_001}, "more than 1000 paths"),
    ):
        status, answer = server.call("POST", "sys/capabilities", body)
        assert status == 400
        assert word in answer["errors"][0]
    status, answer = server.call("POST", "sys/capabilities-accessor", {"paths": ["a"]})
    assert (status, answer["errors"]) == (400, ["missing accessor"])


def test_a_root_token_wanted_in_a_form_that_no_header_carries(server: Server) -> None:
    for wanted in ("a\nb", "\u00e9", " x", "x" * 300):
        with server.first.store.transaction() as tx, pytest.raises(KmsError):
            server.first.tokens.create_root(tx, wanted)
    with server.first.store.transaction() as tx:
        assert server.first.tokens.create_root(tx, "root") == "root"
    assert server.works("root")
