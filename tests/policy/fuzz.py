"""Random sets of whole rules and random requests, decided by the server's function and by the slow reference (T-44)."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from kms.operation import Capability
from kms.policy import Arguments, Context, compile_acl, decide, parse
from tests.policy import generate, slow

PER_SET = 40
NOW = 1_800_000_000.0
NAMES = ("ttl", "name", "type")
VALUES = ("a", "ab", "b", "5", "*", "**")
ENTRIES = ("a", "a*", "*b", "*a*", "5", "*", "**", "b")


def some(rng: random.Random, chance: float, value: Any, otherwise: Any) -> Any:
    return value if rng.random() < chance else otherwise


def parameters(rng: random.Random) -> dict[str, list[str]]:
    names = rng.sample((*NAMES, "*"), rng.randint(1, 2))
    return {name: rng.sample(ENTRIES, rng.randint(0, 3)) for name in names}


def rule(rng: random.Random, policy: str, pattern: str, grants: frozenset[str]) -> slow.Plain:
    """One rule, most of them plain. A deny keeps what decides whether it counts, and nothing else."""
    least = some(rng, 0.08, rng.choice((60, 300)), 0)
    made: slow.Plain = {
        "policy": policy,
        "path": pattern,
        "grants": sorted(grants),
        "expiration": some(rng, 0.1, NOW + rng.choice((-1.0, 0.0, 1.0)), 0.0),
        "mfa": some(rng, 0.1, True, None),
        "tag": some(rng, 0.1, rng.choice(("test", "prod")), None),
        "allowed": {},
        "denied": {},
        "required": [],
        "least": 0,
        "most": 0,
    }
    if "deny" not in grants:
        made |= {
            "allowed": some(rng, 0.15, parameters(rng), {}),
            "denied": some(rng, 0.15, parameters(rng), {}),
            "required": some(rng, 0.1, rng.sample(NAMES, 1), []),
            "least": least,
            "most": some(rng, 0.08, least + 100, 0),
        }
    return made


def rules(rng: random.Random) -> list[slow.Plain]:
    drawn = generate.rules(rng, rng.randint(1, 12))
    return [rule(rng, policy, pattern, grants) for policy, pattern, grants in drawn]


def written(one: slow.Plain) -> dict[str, Any]:
    """The rule as a policy text has it."""
    body: dict[str, Any] = {"capabilities": one["grants"]}
    names = {
        "allowed": "allowed_parameters",
        "denied": "denied_parameters",
        "required": "required_parameters",
    }
    body |= {attribute: one[name] for name, attribute in names.items() if one[name]}
    body |= {
        f"{which}_wrapping_ttl": one[name] for name, which in (("least", "min"), ("most", "max")) if one[name]
    }
    if one["expiration"]:
        body["expiration"] = int(one["expiration"])
    conditions: dict[str, Any] = {"mfa": True} if one["mfa"] else {}
    conditions |= {"tags": {"environment": [one["tag"]]}} if one["tag"] else {}
    return body | ({"conditions": conditions} if conditions else {})


def texts(made: list[slow.Plain]) -> dict[str, str]:
    """The policies' texts, in the order of their names."""
    return {
        name: json.dumps({"path": [{one["path"]: written(one)} for one in made if one["policy"] == name]})
        for name in sorted({one["policy"] for one in made})
    }


def request(rng: random.Random, made: list[slow.Plain]) -> slow.Plain:
    near = rng.random() < 0.8
    return {
        "path": generate.near(rng, rng.choice(made)["path"]) if near else generate.path(rng),
        "capability": rng.choice(list(Capability)).value,
        "sudo": rng.random() < 0.1,
        "now": NOW,
        "mfa": rng.choice((True, False, None)),
        "tag": rng.choice(("test", "prod", None)),
        "wrap": rng.choice((0, 0, 30, 60, 150, 300, 400)),
        "parameters": {name: rng.choice(VALUES) for name in rng.sample(NAMES, rng.randint(0, 2))},
    }


def compare(rng: random.Random, cases: int) -> Counter[str]:
    """Compare that many decisions; how often each answer was given. Raises AssertionError at a difference."""
    seen: Counter[str] = Counter()
    for _ in range(max(cases // PER_SET, 1)):
        made = rules(rng)
        acl = compile_acl({name: parse(text) for name, text in texts(made).items()}, now=NOW)
        for _ in range(PER_SET):
            asked = request(rng, made)
            sent = asked["parameters"]
            known = rng.random() < 0.5
            decision = decide(
                acl,
                asked["path"],
                Capability(asked["capability"]),
                sudo=asked["sudo"],
                arguments=Arguments(
                    values=sent if known else {},
                    given=frozenset(sent) if known else frozenset(),
                    extra={} if known else sent,
                    wrap_ttl=asked["wrap"],
                ),
                context=Context(
                    now=NOW, mfa=asked["mfa"], tags={"environment": asked["tag"]} if asked["tag"] else {}
                ),
            )
            assert decision.allowed == slow.allowed(made, asked), (made, asked, decision)
            seen[decision.why] += 1
    return seen
