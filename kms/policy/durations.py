"""Durations as Go writes them: "90s", "1h30m", "2d", bare seconds."""

from __future__ import annotations

import re

MAX_SECONDS = 2**40  # 34,000 years; keeps arithmetic and stored integers bounded

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d{1,15})([smhd])")
_WHOLE = re.compile(r"(?:\d{1,15}[smhd])+\Z")


def parse_seconds(value: object) -> int:
    """Seconds of 90, "90", "90s", "1h30m" or "2d".

    Raises:
        ValueError: anything else, a negative one, or one over 2^40 seconds.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError('a duration is a number of seconds or a text such as "1h30m"')  # noqa: TRY004  (one type)
    if isinstance(value, int):
        seconds = value
    elif value.isascii() and value.isdigit() and len(value) <= 15:
        seconds = int(value)
    elif _WHOLE.match(value):
        seconds = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(value))
    else:
        raise ValueError(f'invalid duration {value!r}; write it as "1h30m"')
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"invalid duration {value!r}; it must be positive and sane")
    return seconds
