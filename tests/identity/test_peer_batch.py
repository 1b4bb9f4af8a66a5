"""Every kind of token role against every kind of creation, and what its token may then do: as the real server.

Cases are generated: each role setting beside each token type, each creation beside each role, each deed with each token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from tests.identity.test_peer_wire import normal
from tests.identity.wire import Server
from tests.policy.peer import Peer, running

TYPES = ("service", "batch", "default-service", "default-batch")
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "orphan": {"orphan": True},
    "orphan, not renewable": {"orphan": True, "renewable": False},
    "periodic": {"token_period": "1h"},
    "bounded": {"token_explicit_max_ttl": "2h"},
    "few uses": {"token_num_uses": 30},
    "bound": {"token_bound_cidrs": "127.0.0.0/8"},
    "suffix": {"path_suffix": "abc"},
    "no default": {"token_no_default_policy": True, "allowed_policies": "deeds"},
    "batch's all": {"orphan": True, "renewable": False, "token_num_uses": 30},
}
WISHES: tuple[dict[str, Any], ...] = (
    {},
    {"ttl": "1h"},
    {"ttl": "9000h"},
    {"num_uses": 30},
    {"period": "1h"},
    {"explicit_max_ttl": "90m"},
    {"renewable": False},
    {"no_parent": True},
    {"no_default_policy": True},
    {"meta": {"a": "b"}, "display_name": "x y"},
    {"entity_alias": "x"},
    {"policies": ["root"]},
)
POLICY = "\n".join(
    f'path "{path}" {{ capabilities = ["create", "update", "read", "list"] }}'
    for path in ("auth/token/*", "sys/leases/lookup", "sys/capabilities-self")
)
DEEDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("GET", "auth/token/lookup-self", {}),
    ("POST", "auth/token/lookup", {"token": "{token}"}),
    ("POST", "auth/token/renew-self", {"increment": "10m"}),
    ("POST", "auth/token/renew", {"token": "{token}"}),
    ("POST", "auth/token/create", {"policies": ["default"], "ttl": "5m"}),
    ("POST", "sys/capabilities-self", {"paths": ["auth/token/lookup-self", "nothing"]}),
    ("POST", "auth/token/revoke", {"token": "{token}"}),
    ("GET", "auth/token/lookup-self", {}),
    ("POST", "auth/token/revoke-self", {}),
    ("GET", "auth/token/lookup-self", {}),
)
LEAST = 2_900

Call = Callable[..., tuple[int, Any]]
# A word of the case -> why the two may differ there.
ALLOWED = {
    "auth/token/renew": "a renewal says how many uses are left, and not how many there once were",
    "auth/token/renew-self": "the same",
    "few uses": "a batch token cannot count its uses, so a role that limits them makes none",
    "batch's all": "the same",
    "bounded": "the end that a role sets is kept for batch tokens too",
}


def cases() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """(what, role, its settings, the wish)."""
    for kind, (name, settings) in product(TYPES, SETTINGS.items()):
        role = f"{kind}-{name.replace(' ', '-').replace(',', '').replace(chr(39), '')}"
        for wish in WISHES if name == "plain" else WISHES[:4]:
            for wanted in ("", "service", "batch", "weird"):
                given = {"policies": ["deeds"], **wish, **({"type": wanted} if wanted else {})}
                yield f"{kind} {name} {given}", role, {**settings, "token_type": kind}, given
    for wish, wanted in product(WISHES, ("", "service", "batch", "weird")):
        given = {"policies": ["deeds"], **wish, **({"type": wanted} if wanted else {})}
        yield f"none {given}", "", {}, given


def played(call: Call, root: str) -> list[tuple[str, tuple[int, Any]]]:
    """All cases on one server; each answer with what was asked."""
    assert call("PUT", "sys/policies/acl/deeds", {"policy": POLICY}, root)[0] == 204
    told: list[tuple[str, tuple[int, Any]]] = []
    known: set[str] = set()
    for what, role, settings, wish in cases():
        if role and role not in known:
            known.add(role)
            told.append((f"role {what}", call("POST", f"auth/token/roles/{role}", settings, root)))
            told.append((f"role {what}", call("GET", f"auth/token/roles/{role}", None, root)))
        path = f"auth/token/create/{role}" if role else "auth/token/create"
        answer = call("POST", path, wish, root)
        told.append((what, answer))
        if answer[0] == 200:
            token = answer[1]["auth"]["client_token"]
            told += [(f"{what} > {deed[1]}", done(call, deed, token)) for deed in DEEDS]
    return told


def done(call: Call, deed: tuple[str, str, dict[str, Any]], token: str) -> tuple[int, Any]:
    """One deed with a token."""
    verb, path, body = deed
    filled = {name: token if value == "{token}" else value for name, value in body.items()}
    return call(verb, path, None if verb == "GET" else filled, token)


@pytest.fixture
def peer() -> Iterator[Peer]:
    """One of its own: the others compare what is listed."""
    with running() as started:
        yield started


@pytest.mark.timeout(180)
def test_tokens_of_each_kind_are_those_of_the_real_server(peer: Peer, server: Server) -> None:
    theirs = played(peer.call, "root")
    ours = played(server.first.call, server.root)
    wrong, used, skipped = [], set(), set()
    our_told, their_told = dict(_numbered(ours)), dict(_numbered(theirs))
    for what, their in their_told.items():
        our = our_told.get(what)
        case = what.partition(" > ")[0]
        if our is not None and (their[0], normal(their[1])) == (our[0], normal(our[1])):
            continue
        word = next((word for word in ALLOWED if f" {word} " in what and not what.startswith("role ")), "")
        if word.startswith("auth/") and our is not None:
            if _without_uses(their) != _without_uses(our):
                wrong.append(f"{what}\n   peer {normal(their)}\n   ours {normal(our)}")
            used.add(word)
        elif word:
            used.add(word)
            skipped.add(case)
        elif case not in skipped:
            wrong.append(f"{what}\n   peer {normal(their)}\n   ours {normal(our) if our else None}")
    print(f"{len(their_told)} answers compared, {len(wrong)} differ")
    assert not wrong, "\n".join(wrong[:12])
    assert used == set(ALLOWED)
    assert len(their_told) >= LEAST


def _without_uses(answer: tuple[int, Any]) -> tuple[int, Any]:
    body = normal(answer[1])
    auth = {name: value for name, value in (body.get("auth") or {}).items() if name != "num_uses"}
    return answer[0], {**body, "auth": auth}


def _numbered(told: list[tuple[str, tuple[int, Any]]]) -> Iterator[tuple[str, tuple[int, Any]]]:
    """The same question is asked more than once."""
    seen: dict[str, int] = {}
    for what, answer in told:
        seen[what] = seen.get(what, 0) + 1
        yield f"{what} > #{seen[what]}", answer


ALIASES = ("svc-a", "SVC-A", "team-x", "TEAM-X", "team-", "other", "B", "", "*")


def aliased(call: Call, root: str) -> list[Any]:
    """What each alias gives: status, errors, and which entity it is, by the order in which they turned up."""
    told: list[Any] = []
    entities: list[str] = [""]
    role = {"allowed_entity_aliases": "Svc-A,team-*,b,b", "allowed_policies": "default"}
    told.append(call("POST", "auth/token/roles/ea", role, root)[0])
    told.append(call("GET", "auth/token/roles/ea", None, root)[1]["data"]["allowed_entity_aliases"])
    for alias, kind in product(ALIASES, ("service", "batch")):
        status, answer = call("POST", "auth/token/create/ea", {"entity_alias": alias, "type": kind}, root)
        entity = answer["auth"]["entity_id"] if status == 200 else ""
        if entity not in entities:
            entities.append(entity)
        told.append((alias, status, answer.get("errors"), entities.index(entity)))
        if status == 200:
            token = answer["auth"]["client_token"]
            seen = call("GET", "auth/token/lookup-self", None, token)[1]["data"]["entity_id"]
            told.append(seen == entity)
    told.append(call("POST", "auth/token/create", {"entity_alias": "svc-a"}, root))
    told.append(call("POST", "auth/token/roles/ea", {"allowed_entity_aliases": ""}, root)[0])
    told.append(call("POST", "auth/token/create/ea", {"entity_alias": "svc-a"}, root))
    return told


def test_roles_give_tokens_to_the_entities_of_aliases(peer: Peer, server: Server) -> None:
    assert aliased(server.first.call, server.root) == aliased(peer.call, "root")
