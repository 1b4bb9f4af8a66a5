"""sys/leases beside the real server: the same requests, the same answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.dev import DevServer
from tests.policy.peer import Peer, running

HASHED = re.compile(r"h[0-9a-f]{64}\Z")
LEAST = 100
# What is said otherwise on purpose: ours -> the peer's.
SAID = {
    "Tidy operation successfully started. What is over is taken back step by step.": "Tidy operation successfully"
    " started. Any information from the operation will be printed to OpenBao's server logs.",
    "invalid 'limit' provided: 'x' is no number": "1 error occurred:\n\t* invalid 'limit' provided: strconv.Atoi:"
    ' parsing "x": invalid syntax\n\n',
}
Call = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with running() as started:
        yield started


def form(value: Any, name: str = "") -> Any:
    """An answer without what is new each time."""
    if isinstance(value, dict):
        return {key: form(inner, key) for key, inner in value.items() if key != "request_id"}
    if isinstance(value, list):
        return [form(each, name) for each in value]
    if name in {"issue_time", "expire_time", "last_renewal"}:
        return type(value).__name__
    if name in {"ttl", "lease_duration"}:
        return round(value / 1000)
    if isinstance(value, str):
        value = SAID.get(value, value)
        # The last part of a lease ID; that of the peer's own root token is a SHA-1.
        return re.sub(r"(?:h[0-9a-f]{64}|[0-9a-f]{40}|[A-Za-z0-9]{24})\Z", "id", value)
    return value


class Play:
    """Requests to one server, with what it answered."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.told: list[tuple[str, Any]] = []

    def ask(self, verb: str, path: str, body: Any = None, token: str | None = None) -> Any:
        status, answer = (
            self._call(verb, path, body) if token is None else self._call(verb, path, body, token)
        )
        shown = status
        if path.startswith("sys/leases") and verb == "LIST" and answer and "data" in answer:
            keys = answer["data"]["keys"]
            answer = {"keys": sorted({form(key) for key in keys})}  # a set: a -dev root has a lease there
        elif path.startswith("sys/leases") and status == 500:
            shown = 400  # a number that is none is the caller's mistake
        self.told.append((f"{verb} {form(path)} {form(body)}", (shown, form(answer))))
        return answer

    def quietly(self, verb: str, path: str, body: Any = None, token: str | None = None) -> Any:
        args = (verb, path, body) if token is None else (verb, path, body, token)
        return self._call(*args)[1]

    def id_below(self, prefix: str) -> str:
        keys = self.quietly("LIST", f"sys/leases/lookup/{prefix}")["data"]["keys"]
        return f"{prefix}/{next(key for key in keys if not key.endswith('/'))}"


def played(call: Call) -> list[tuple[str, Any]]:
    """All of it on one server."""
    play = Play(call)
    play.quietly("POST", "sys/auth/userpass", {"type": "userpass"})
    for user in ("ann", "bob"):
        play.quietly("POST", f"auth/userpass/users/{user}", {"password": "pw", "token_policies": "p"})
        play.quietly("POST", f"auth/userpass/login/{user}", {"password": "pw"}, "")
    play.quietly("POST", "auth/token/roles/r", {"allowed_policies": "default"})
    play.quietly("POST", "auth/token/roles/rs", {"allowed_policies": "default", "path_suffix": "suf"})
    for path in ("create", "create/r", "create/rs", "create-orphan"):
        play.quietly("POST", f"auth/token/{path}", {"policies": ["default"], "ttl": "1h"})
    play.quietly("POST", "sys/mounts/pki", {"type": "pki"})
    play.quietly("POST", "pki/root/generate/internal", {"common_name": "x", "key_type": "ec"})
    role = {"allow_any_name": True, "key_type": "ec", "generate_lease": True, "ttl": "1h"}
    play.quietly("POST", "pki/roles/r", role)
    play.quietly("POST", "pki/roles/ns", role | {"no_store": True})
    _empty(play)
    _lists(play)
    for prefix in (
        "auth/userpass/login/ann",
        "auth/token/create/r",
        "auth/token/create/rs/suf",
        "pki/issue/r",
    ):
        _one(play, prefix)
    _prefixes(play)
    return play.told


def _empty(play: Play) -> None:
    for verb in ("lookup", "renew", "revoke"):
        for body in ({}, {"lease_id": ""}, {"lease_id": "nope"}, {"lease_id": "a/b/c"}):
            play.ask("POST", f"sys/leases/{verb}", body)
        play.ask("GET", f"sys/leases/{verb}")
    for verb in ("renew", "revoke"):
        play.ask("POST", f"sys/leases/{verb}/nope", {})
        play.ask("POST", f"sys/leases/{verb}/a/b/c", {})
    flags: tuple[dict[str, object], ...] = ({"lease_id": "a", "sync": False}, {"lease_id": "a", "sync": True})
    for flag in flags:
        play.ask("POST", "sys/leases/revoke", flag)
    for verb in ("revoke-prefix", "revoke-force"):
        for prefix in ("", "/nothing", "/nothing/at/all"):
            play.ask("POST", f"sys/leases/{verb}{prefix}", {})
    play.ask("POST", "sys/leases/revoke-prefix/nothing", {"sync": False})
    for query in ("", "?type=irrevocable", "?type=token", "?type=x"):
        play.ask("GET", f"sys/leases/count{query}")
        play.ask("GET", f"sys/leases{query}")
    play.ask("GET", "sys/leases?type=irrevocable&limit=1")
    play.ask("GET", "sys/leases?type=irrevocable&limit=x")
    play.ask("POST", "sys/leases/tidy", {})
    play.ask("POST", "sys/leases/tidy")
    for path in ("sys/renew", "sys/revoke", "sys/revoke-prefix/x", "sys/revoke-force/x"):
        play.ask("POST", path, {"lease_id": "x"})


def _lists(play: Play) -> None:
    for prefix in (
        "",
        "/",
        "/auth",
        "/auth/",
        "/auth/userpass",
        "/auth/userpass/login",
        "/auth/userpass/login/ann",
        "/auth/token",
        "/auth/token/create",
        "/auth/token/create/r",
        "/auth/token/create/rs",
        "/auth/token/create/rs/suf",
        "/auth/token/create-orphan",
        "/nothing",
        "/aut",
    ):
        play.ask("LIST", f"sys/leases/lookup{prefix}")


def _one(play: Play, prefix: str) -> None:
    """The life of one lease below a prefix."""
    if prefix.startswith("pki/"):
        answer = play.quietly("POST", prefix, {"common_name": "a.example.test"})
        play.told.append(
            (prefix, (form(answer["lease_id"]), answer["renewable"], round(answer["lease_duration"] / 1000)))
        )
        unstored = play.quietly("POST", "pki/issue/ns", {"common_name": "a.example.test"})
        play.told.append(
            ("pki/issue/ns", (unstored["lease_id"], unstored["renewable"], unstored["lease_duration"]))
        )
    lease = play.id_below(prefix)
    play.ask("POST", "sys/leases/lookup", {"lease_id": lease})
    play.ask("PUT", "sys/leases/lookup", {"lease_id": lease + "/"})
    play.ask("POST", "sys/leases/renew", {"lease_id": lease})
    play.ask("POST", "sys/leases/renew", {"lease_id": lease, "increment": "5m"})
    play.ask("POST", f"sys/leases/renew/{lease}", {})
    play.ask("POST", "sys/leases/revoke", {"lease_id": lease})
    play.ask("POST", "sys/leases/lookup", {"lease_id": lease})
    play.ask("POST", "sys/leases/renew", {"lease_id": lease})
    play.ask("POST", "sys/leases/revoke", {"lease_id": lease})
    play.ask("LIST", f"sys/leases/lookup/{prefix}")


def _prefixes(play: Play) -> None:
    for verb, prefix in (
        ("revoke-prefix", "auth/userpass/login/bob"),
        ("revoke-prefix", "auth/userpass"),
        ("revoke-force", "auth/userpass"),
    ):
        tokens = [
            play.quietly("POST", f"auth/userpass/login/{user}", {"password": "pw"}, "")["auth"][
                "client_token"
            ]
            for user in ("ann", "bob")
        ]
        play.ask("POST", f"sys/leases/{verb}/{prefix}", {})
        for token in tokens:
            works = "data" in play.quietly("GET", "auth/token/lookup-self", None, token)
            play.told.append((f"after {verb} {prefix}", works))
        play.ask("LIST", "sys/leases/lookup/auth/userpass/login")


def test_both_servers_answer_alike(tmp_path_factory: pytest.TempPathFactory, peer: Peer) -> None:
    own = DevServer(tmp_path_factory.mktemp("beside"), workers=1)
    own.start()
    try:

        def ours(verb: str, path: str, body: object = None, token: str | None = None) -> tuple[int, Any]:
            with own.api(token) as api:
                answer = api.call(verb, path, body)
            return answer.status, answer.json or None

        theirs, told = played(peer.call), played(ours)
    finally:
        own.stop()
    different = [
        (what, their, our) for (what, their), (_, our) in zip(theirs, told, strict=True) if their != our
    ]
    for what, their, our in different:
        print(f"\n{what}\n   peer {their}\n   ours {our}")
    print(f"{len(told)} answers compared, {len(different)} differ")
    assert not different, f"{len(different)} of {len(theirs)} answers differ"
    assert len(told) >= LEAST
