"""Random policies and the paths that are likely to tell two readings of them apart."""

from __future__ import annotations

import random

GRANTS = ("create", "read", "update", "patch", "delete", "list", "sudo", "deny", "scan")
_SEGMENTS = ("a", "b", "ab", "abc", "foo", "+", "+", "+x", "x+y", "*", "", "a.b", "A")
_PLAIN = ("a", "b", "ab", "abc", "foo", "x+y", "+x", "a.b", "A", "*", "ac", "fo", "+")


def pattern(rng: random.Random) -> str:
    while True:
        parts = [rng.choice(_SEGMENTS) for _ in range(rng.randint(1, 4))]
        text = "/".join(parts) + rng.choice(("", "", "*", "/*", "/"))
        if "+*" not in text and not text.startswith("/"):
            return text


def rules(rng: random.Random, count: int) -> list[tuple[str, str, frozenset[str]]]:
    """(policy, pattern, grants) with several policies and repeated patterns."""
    patterns = [pattern(rng) for _ in range(max(1, count * 2 // 3))]
    return [
        (
            rng.choice(("p1", "p2", "p3")),
            rng.choice(patterns),
            frozenset(rng.sample(GRANTS[:7], rng.randint(0, 3)) + (["deny"] if rng.random() < 0.1 else [])),
        )
        for _ in range(count)
    ]


def path(rng: random.Random) -> str:
    """A canonical path: no empty segment inside, perhaps one last slash."""
    parts = [rng.choice(_PLAIN) for _ in range(rng.randint(1, 5))]
    return "/".join(parts) + rng.choice(("", "", "/"))


def near(rng: random.Random, text: str) -> str:
    """A path that almost or really matches the pattern."""
    filled = "/".join(
        rng.choice(_PLAIN[:6]) if part in {"+", ""} or rng.random() < 0.1 else part
        for part in text.split("/")
    )
    if filled.endswith("*"):
        filled = filled[:-1] + rng.choice(("", "x", "x/y", "/"))
    return filled.replace("//", "/").lstrip("/") or "a"
