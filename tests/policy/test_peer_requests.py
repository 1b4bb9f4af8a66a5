"""Random rules about parameters and wrapping: real requests to the real server, 403 or not, and our decision."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from kms.durations import seconds
from kms.operation import Capability
from kms.policy import Arguments, compile_acl, decide, parse
from tests.policy import fuzz
from tests.policy.peer import Peer

SETS = 120
REQUESTS = 25
VERBS = {
    "GET": (Capability.READ,),
    "LIST": (Capability.LIST,),
    "DELETE": (Capability.DELETE,),
    "POST": (Capability.CREATE, Capability.UPDATE),
}


def policy(rng: random.Random) -> dict[str, Any]:
    """Rules below cubbyhole/, where the real server takes any parameter. Create and update stand together."""
    paths = []
    for _ in range(rng.randint(1, 4)):
        made = fuzz.rule(
            rng, "p", "cubbyhole/" + rng.choice(("a", "b", "a/b", "*", "a/*", "+", "+/b", "a*")), frozenset()
        )
        grants = set(rng.sample(("read", "list", "delete"), rng.randint(0, 3)))
        grants |= {"create", "update"} if rng.random() < 0.8 else set()
        grants |= {"deny"} if rng.random() < 0.05 else set()
        body = fuzz.written(made | {"grants": sorted(grants), "mfa": None, "tag": None})
        if "list" in grants and rng.random() < 0.3:
            body["pagination_limit"] = rng.choice((1, 5))
        paths.append({made["path"]: body})
    return {"path": paths}


def request(rng: random.Random) -> dict[str, Any]:
    verb = rng.choice(("GET", "LIST", "DELETE", "POST", "POST", "POST"))
    names = rng.sample((*fuzz.NAMES, "Name"), rng.randint(0, 2))
    values: tuple[Any, ...] = (*fuzz.VALUES, True, False, None, {}) if verb == "POST" else fuzz.VALUES
    sent = {name: rng.choice(values) for name in names} if verb in {"POST", "GET"} else {}
    if verb == "LIST" and rng.random() < 0.5:
        sent = {"limit": rng.choice(("0", "1", "3", "9", "-1", "x", "max"))}
    return {
        "verb": verb,
        "path": "cubbyhole/" + rng.choice(("a", "b", "c", "a/b", "a/b/c", "ab", "b/b")),
        "sent": sent or ({"x": "y"} if verb == "POST" else {}),
        "wrap": rng.choice(("", "", "60s", "100s", "350s")),
    }


def theirs(peer: Peer, asked: dict[str, Any], token: str) -> bool:
    body, path = None, asked["path"]
    if asked["verb"] == "POST":
        body = json.dumps(asked["sent"])
    elif asked["sent"]:
        path += "?" + "&".join(f"{name}={value}" for name, value in asked["sent"].items())
    headers = {"X-Vault-Token": token} | ({"X-Vault-Wrap-TTL": asked["wrap"]} if asked["wrap"] else {})
    return peer.status(asked["verb"], path, body, headers) != 403


def ours(text: str, asked: dict[str, Any]) -> bool:
    acl = compile_acl({"p": parse(text)}, now=fuzz.NOW)
    arguments = Arguments(extra=asked["sent"], wrap_ttl=seconds(asked["wrap"]))
    found = [decide(acl, asked["path"], verb, arguments=arguments) for verb in VERBS[asked["verb"]]]
    return all(decision.allowed for decision in found)


@pytest.mark.timeout(600)
def test_requests_are_refused_by_both_or_by_none(peer: Peer) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    allowed = 0
    for _ in range(SETS):
        # Two hundred years on, what expires here has not expired there, and the other way round.
        text = json.dumps(policy(rng)).replace(str(int(fuzz.NOW)), "4000000000")
        text = text.replace(str(int(fuzz.NOW) - 1), "1000000000").replace(
            str(int(fuzz.NOW) + 1), "4000000001"
        )
        assert peer.put_policy("requests", text) == 204, (seed, text)
        token = peer.token(["requests"])
        for _ in range(REQUESTS):
            asked = request(rng)
            answer = ours(text, asked)
            assert theirs(peer, asked, token) == answer, (seed, text, asked)
            allowed += answer
    print(f"\n{SETS * REQUESTS} requests compared, {allowed} allowed")
    assert 0.1 < allowed / (SETS * REQUESTS) < 0.9


# (the rule's attribute, what is sent, the real server allows it, we allow it)
BY_MEANING = [
    ("allowed_parameters = { ttl = [5] }", {"ttl": 5}, False, True),
    ("denied_parameters = { ttl = [5] }", {"ttl": 5}, True, False),
    ('allowed_parameters = { ttl = ["a"] }', {"ttl": ["a"]}, False, True),
    ('denied_parameters = { ttl = ["a"] }', {"ttl": ["b", "a"]}, True, False),
    ("denied_parameters = { ttl = [true] }", {"ttl": "true"}, True, False),
]


@pytest.mark.parametrize(("attribute", "sent", "there", "here"), BY_MEANING)
def test_numbers_and_lists_mean_what_they_say(
    peer: Peer, attribute: str, sent: dict[str, Any], *, there: bool, here: bool
) -> None:
    """The real server compares their Go types: a number in a rule is never the number of a request."""
    text = f'path "cubbyhole/a" {{ capabilities = ["create", "update"]\n {attribute} }}'
    assert peer.put_policy("meaning", text) == 204
    asked = {"verb": "POST", "path": "cubbyhole/a", "sent": sent, "wrap": ""}
    assert theirs(peer, asked, peer.token(["meaning"])) is there
    assert ours(text, asked) is here
