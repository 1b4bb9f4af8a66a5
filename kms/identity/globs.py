"""Patterns of the API in which `*` stands for any text, and nothing else stands for anything."""

from __future__ import annotations

import re
from collections.abc import Iterable


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits."""
    if "*" not in pattern:
        return pattern == text
    parts = ".*".join(re.escape(part) for part in re.split(r"\*+", pattern))
    return re.fullmatch(parts, text, re.DOTALL) is not None


def among(patterns: Iterable[str], texts: Iterable[str]) -> bool:
    """Whether one of the texts fits one of the patterns."""
    listed = tuple(texts)
    return any(matches(pattern, text) for pattern in patterns for text in listed)
