"""T-44: random policies and requests, decided twice."""

from __future__ import annotations

import random

from kms.operation import Capability
from kms.policy import PolicyDocument, Rule, capabilities, compile_acl, decide
from tests.policy import generate, reference

CASES = 10_000
PER_SET = 40


def documents(rules: list[tuple[str, str, frozenset[str]]]) -> dict[str, PolicyDocument]:
    found: dict[str, list[Rule]] = {}
    for policy, pattern, grants in rules:
        found.setdefault(policy, []).append(Rule(path=pattern, grants=tuple(sorted(grants))))
    return {name: PolicyDocument(rules=tuple(listed)) for name, listed in found.items()}


def test_decisions_agree_with_the_reference() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    allowed = 0
    for _ in range(CASES // PER_SET):
        rules = generate.rules(rng, rng.randint(1, 12))
        acl = compile_acl(documents(rules))
        for _ in range(PER_SET):
            path = generate.near(rng, rng.choice(rules)[1]) if rng.random() < 0.7 else generate.path(rng)
            capability = rng.choice(list(Capability))
            sudo = rng.random() < 0.1
            listing = capability is Capability.LIST
            looked_up = path if path.endswith("/") or not listing else path + "/"
            granted = reference.grants(rules, looked_up, listing=listing)
            expected = capability in granted and (not sudo or "sudo" in granted) and "deny" not in granted
            decision = decide(acl, path, capability, sudo=sudo)
            assert expected == decision.allowed, (seed, rules, path, capability, sudo, decision)
            allowed += decision.allowed
            shown = sorted(reference.grants(rules, path, listing=True)) or ["deny"]
            assert shown == capabilities(acl, path), (seed, rules, path)
    # The generator must reach both answers often, or agreeing proves nothing.
    assert CASES * 0.05 < allowed < CASES * 0.95, (seed, allowed)


def test_the_reference_notices_a_wrong_order() -> None:
    """The comparison can fail: a reference that prefers early wildcards disagrees soon."""
    rules = [("p1", "a/*", frozenset({"read"})), ("p1", "+/b", frozenset({"deny"}))]
    assert reference.grants(rules, "a/b", listing=False) == {"read"}
    assert reference.compare("a/*", "+/b") > 0 > reference.compare("+/b", "a/*")
