"""Random policy sets: the real server's sys/capabilities and ours say the same, path by path."""

from __future__ import annotations

import json
import random

import pytest

from kms.policy import capabilities, compile_acl, parse
from tests.policy import generate
from tests.policy.peer import Peer

SETS = 1_000
PATHS = 16


def as_json(rules: list[tuple[str, frozenset[str]]]) -> str:
    """A list of single-path objects, so that a repeated pattern stays repeated."""
    return json.dumps({"path": [{p: {"capabilities": sorted(grants)}} for p, grants in rules]})


def as_hcl(rules: list[tuple[str, frozenset[str]]]) -> str:
    return "\n".join(
        f"path {json.dumps(p)} {{\n  capabilities = {json.dumps(sorted(g))}\n}}" for p, g in rules
    )


def _of_token(peer: Peer, policies: list[str], paths: list[str]) -> dict[str, list[str]]:
    return peer.capabilities(peer.token(policies), paths)


def _of_self(peer: Peer, policies: list[str], paths: list[str]) -> dict[str, list[str]]:
    own = [*policies, "asks-itself"]
    _, answer = peer.call("POST", "sys/capabilities-self", {"paths": paths}, peer.token(own))
    return {path: answer["data"][path] for path in paths}


def _of_accessor(peer: Peer, policies: list[str], paths: list[str]) -> dict[str, list[str]]:
    body = {"policies": policies, "no_default_policy": True}
    accessor = peer.call("POST", "auth/token/create", body)[1]["auth"]["accessor"]
    _, answer = peer.call("POST", "sys/capabilities-accessor", {"accessor": accessor, "paths": paths})
    return {path: answer["data"][path] for path in paths}


ASKED = (_of_token, _of_self, _of_accessor)


@pytest.mark.timeout(600)
def test_random_policy_sets_mean_the_same_to_both_servers(peer: Peer) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    kinds: set[tuple[str, ...]] = set()
    asks = 'path "sys/capabilities-self" { capabilities = ["update"] }'
    assert peer.put_policy("asks-itself", asks) == 204
    compared = 0
    for _ in range(SETS):
        rules = generate.rules(rng, rng.randint(1, 14))
        texts: dict[str, str] = {}
        for policy in sorted({name for name, _, _ in rules}):
            mine = [(pattern, grants) for name, pattern, grants in rules if name == policy]
            texts[policy] = rng.choice((as_json, as_hcl))(mine)
            assert peer.put_policy(policy, texts[policy]) == 204, (seed, texts[policy])
        acl = compile_acl({name: parse(text) for name, text in texts.items()})
        paths = sorted(
            {generate.near(rng, rng.choice(rules)[1]) for _ in range(PATHS // 2)}
            | {generate.path(rng) for _ in range(PATHS // 2)}
        )
        theirs = rng.choice(ASKED)(peer, list(texts), paths)
        for path in paths:
            ours = capabilities(acl, path)
            assert theirs[path] == ours, (seed, texts, path)
            kinds.add(tuple(ours))
            compared += 1
    print(f"\n{compared} paths of {SETS} policy sets compared, {len(kinds)} different answers")
    assert len(kinds) > 20


def test_default_policy_is_the_peers(peer: Peer) -> None:
    from kms.policy.builtin import DEFAULT_DOCUMENT, DEFAULT_TEXT  # noqa: PLC0415  (not part of the front)

    _, answer = peer.call("GET", "sys/policies/acl/default")
    theirs = {(rule.path, frozenset(rule.grants)) for rule in parse(answer["data"]["policy"]).rules}
    ours = {(rule.path, frozenset(rule.grants)) for rule in DEFAULT_DOCUMENT.rules}
    assert theirs == ours
    assert parse(DEFAULT_TEXT) == DEFAULT_DOCUMENT
