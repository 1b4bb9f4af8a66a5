"""T-44: whole rules and requests, decided twice. `scripts/policy-fuzz` does a million."""

from __future__ import annotations

import random

from tests.policy import fuzz, slow

CASES = 10_000


def test_whole_decisions_agree_with_the_reference() -> None:
    seed = random.randrange(2**32)
    print(f"\nseed {seed}")
    seen = fuzz.compare(random.Random(seed), CASES)
    print(dict(seen))
    # The generator must reach every answer, or agreeing proves nothing.
    assert min(seen[why] for why in ("granted", "no_rule", "deny", "capability", "condition")) > 50, seen
    assert min(seen[why] for why in ("sudo", "parameters", "wrapping")) > 10, seen


def test_the_reference_can_disagree() -> None:
    rng = random.Random(7)
    made = [fuzz.rule(rng, "p", "a", frozenset({"read"})) | {"mfa": True, "expiration": 0.0}]
    asked = fuzz.request(rng, made) | {"path": "a", "capability": "read", "sudo": False, "parameters": {}}
    assert not slow.allowed(made, asked | {"mfa": None})
