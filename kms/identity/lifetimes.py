"""How long a token may live: the peer's arithmetic, and its warnings word for word. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kms.errors import invalid

DEFAULT_TTL: Final = 768 * 3600  # seconds: 32 days, the peer's default
MAX_TTL: Final = 768 * 3600


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A granted TTL in seconds, and what the caller should hear about it.

    Args:
        end: the last second of all, counted from creation; 0 for none.
    """

    ttl: int
    end: int
    warnings: tuple[str, ...] = ()


def lifetime(
    wanted: int, *, period: int = 0, explicit_max: int = 0, most: int = 0, age: float = 0.0
) -> Lifetime:
    """What to grant to a token of `age` seconds that asks for `wanted` (0: the default).

    `most` is the maximum of a mount or role, where that is less than the system's.

    A period replaces the wish and knows no end but an explicit maximum; everything else ends at the
    lesser of the system's maximum and the explicit one, counted from creation.

    Raises:
        KmsError(INVALID): the end has passed.
    """
    most = min(MAX_TTL, explicit_max or MAX_TTL, most or MAX_TTL)
    warnings: list[str] = []
    if period:
        ttl, end = period, explicit_max
        if period > most:
            ttl = most
            warnings.append(_capped("period", period, most))
    else:
        ttl, end = wanted or DEFAULT_TTL, most
    if end:
        left = end - int(age)  # whole seconds, as the peer counts; the expiry itself is cut exactly
        if left <= 0:
            raise invalid("past the max TTL, cannot renew")
        if ttl > left:
            warnings.append(_capped("TTL", ttl, left))
            ttl = left
    return Lifetime(ttl, end, tuple(warnings))


def _capped(what: str, wanted: int, most: int) -> str:
    return (
        f'{what} of "{go_duration(wanted)}" exceeded the effective max_ttl of "{go_duration(most)}"; '
        f"{what} value is capped accordingly"
    )


def go_duration(seconds: int) -> str:
    """The short form that the peer prints: 5400 -> "1h30m", 0 -> "0s"."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (left, "s")) if n]
    return "".join(parts) or "0s"
