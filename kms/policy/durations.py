"""Durations in policies: numbers of seconds, or texts as Go writes them."""

from __future__ import annotations

from kms.durations import seconds

MAX_SECONDS = 2**40  # 34,000 years; keeps arithmetic and stored integers bounded


def parse_seconds(value: object) -> int:
    """Seconds of 90, "90", "90s", "1h30m" or "2d".

    Raises:
        ValueError: anything else, a negative one, or one over 2^40 seconds.
    """
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError('a duration is a number of seconds or a text such as "1h30m"')
    number = value if isinstance(value, int) else seconds(value)
    if not 0 <= number <= MAX_SECONDS:
        raise ValueError(f"invalid duration {value!r}; it must be positive and sane")
    return number
