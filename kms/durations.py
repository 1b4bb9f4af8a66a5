"""Durations as Go writes them, and as the Vault API takes them: "90s", "1h30m", "1.5h", "2d", bare seconds."""

from __future__ import annotations

import re

MAX_TEXT = 64

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")


def seconds(text: str) -> int:
    """A duration in seconds: "3600", "1h30m", "1.5h", "1d"; "" is 0. Fractions are cut off.

    Raises:
        ValueError: not a duration, with the real server's text.
    """
    if not text:
        return 0
    if len(text) > MAX_TEXT:
        raise ValueError("time: invalid duration")
    if _INTEGER.match(text):
        return int(text)
    sign, rest = (-1, text[1:]) if text[0] == "-" else (1, text)
    total, at = 0.0, 0
    for part in _PART.finditer(rest):
        if part.start() != at:
            break
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not rest or at != len(rest):
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * int(total)
