"""A slow second opinion on decisions, written from the peer's documented order and nothing of kms.policy.

Every pattern is a regular expression, every match is collected, and the best one is found by comparing
pairs. Rules are plain tuples (policy, pattern, grants).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

Rules = Iterable[tuple[str, str, frozenset[str]]]


def has_segments(pattern: str) -> bool:
    return pattern == "+" or pattern.startswith("+/") or "/+" in pattern


def matches(pattern: str, path: str) -> bool:
    if not has_segments(pattern):
        return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern
    bare, tail = (pattern[:-1], ".*") if pattern.endswith("*") else (pattern, "")
    expression = "/".join("[^/]*" if part == "+" else re.escape(part) for part in bare.split("/"))
    return re.fullmatch(expression + tail, path, re.DOTALL) is not None


def compare(left: str, right: str) -> int:
    """Positive when `left` decides before `right`."""
    signs = (
        _first_wildcard(left) - _first_wildcard(right),
        right.endswith("*") - left.endswith("*"),
        _plus(right) - _plus(left),
        len(left.removesuffix("*")) - len(right.removesuffix("*")),
    )
    for sign in signs:
        if sign:
            return sign
    return 1 if left > right else -1


def _first_wildcard(pattern: str) -> int:
    return pattern.index("+") if has_segments(pattern) else len(pattern) - 1


def _plus(pattern: str) -> int:
    return sum(part == "+" for part in pattern.removesuffix("*").split("/")) if has_segments(pattern) else 0


def deciding(rules: Rules, path: str) -> str | None:
    patterns = {pattern for _, pattern, _ in rules}
    if path in patterns and not has_segments(path) and not path.endswith("*"):
        return path
    wild = [p for p in patterns if (has_segments(p) or p.endswith("*")) and matches(p, path)]
    return max(wild, key=functools.cmp_to_key(compare)) if wild else None


def grants(rules: Rules, path: str, *, listing: bool) -> frozenset[str]:
    """The united capabilities of the pattern that decides; empty when none does."""
    rules = list(rules)
    exact = {p for _, p, _ in rules if not has_segments(p) and not p.endswith("*")}
    pattern = None
    candidates = [path]
    if listing and path.endswith("/"):
        if path not in exact and path[:-1] in exact:
            pattern = path[:-1]
        elif path not in exact:
            candidates = [path, path[:-1]]
    for candidate in candidates:
        pattern = pattern or deciding(rules, candidate)
    united = frozenset[str]().union(*(granted for _, p, granted in rules if p == pattern))
    return frozenset({"deny"}) if "deny" in united else united
