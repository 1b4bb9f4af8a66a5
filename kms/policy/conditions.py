"""Conditions on a rule: when, from where, how sure, in which environment.

    conditions {
      time { days = ["mon", "tue"] start = "08:00" end = "18:00" }   # UTC; several: one of them
      not_before = "2026-01-01T00:00:00Z"
      not_after = "2027-01-01T00:00:00Z"
      networks = ["10.0.0.0/8"]
      mfa = true
      tags = { environment = ["test", "staging"] }
    }

All that are given must hold. What cannot be found out (no address, no clock, a tag that the server does not
have) does not hold; and an unknown condition is refused when the policy is written.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from kms.policy._hcl import Pairs
from kms.policy.model import Conditions, Window

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\Z|24:00\Z")
_TAG = re.compile(r"[a-z0-9_.-]{1,64}\Z")
_MAX_ENTRIES: Final = 256
_DAY_MINUTES: Final = 24 * 60

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision may depend on besides the request. What is unknown fulfils no condition.

    Args:
        now: seconds since the epoch, None when unknown.
        peer: address that the request came from, "" when unknown.
        mfa: whether the caller's login was confirmed by a second factor, None when unknown.
        tags: of the server's environment, as its operator set them.
    """

    now: float | None = None
    peer: str = ""
    mfa: bool | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def unmet(conditions: Conditions, context: Context) -> str:
    """The name of the first condition that is not known to hold: time, network, mfa, tags; "" when all hold."""
    return next((name for name, holds in _verdicts(conditions, context) if holds is not True), "")


def refuted(conditions: Conditions, context: Context) -> bool:
    """Whether one of them is known not to hold. What a rule denies, it denies in doubt, too."""
    return any(holds is False for _, holds in _verdicts(conditions, context))


def _verdicts(conditions: Conditions, context: Context) -> Iterator[tuple[str, bool | None]]:
    if conditions.windows or conditions.not_before or conditions.not_after:
        yield "time", None if context.now is None else _timely(conditions, context.now)
    if conditions.networks:
        yield "network", _inside(conditions.networks, context.peer)
    if conditions.mfa:
        yield "mfa", context.mfa
    for name, values in conditions.tags.items():
        yield "tags", context.tags[name] in values if name in context.tags else None


def _timely(conditions: Conditions, now: float) -> bool:
    if now < conditions.not_before or (conditions.not_after and now >= conditions.not_after):
        return False
    if not conditions.windows:
        return True
    moment = datetime.fromtimestamp(now, UTC)
    minute, day = moment.hour * 60 + moment.minute, moment.weekday()
    return any(_open(window, day, minute) for window in conditions.windows)


def _open(window: Window, day: int, minute: int) -> bool:
    if window.start < window.end:
        return _on(window, day) and window.start <= minute < window.end
    if minute >= window.start:
        return _on(window, day)
    return minute < window.end and _on(window, (day - 1) % 7)


def _on(window: Window, day: int) -> bool:
    return not window.days or day in window.days


def _inside(networks: tuple[str, ...], peer: str) -> bool | None:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _compiled(networks))


@lru_cache(1024)
def _compiled(networks: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in networks)


# -- reading ----------------------------------------------------------------------------------------------


def read_conditions(value: Any) -> Conditions:
    """The block as written. Raises ValueError: an unknown condition, or one that is no such thing."""
    if not isinstance(value, Pairs):
        raise ValueError("conditions must be a block")  # noqa: TRY004  (one error type for all faults)
    found: dict[str, Any] = {}
    windows: list[Window] = []
    for name, given in value:
        if name == "time":
            windows += [_window(one) for one in _each(given)]
        elif name not in _READERS:
            raise ValueError(
                f"unknown condition {name!r}; there are: {', '.join(sorted((*_READERS, 'time')))}"
            )
        elif name in found:
            raise ValueError(f"condition '{name}' is given twice")
        else:
            found[name] = _READERS[name](given, name)
    if not windows and not any(found.values()):
        raise ValueError("conditions must name at least one")
    made = Conditions(windows=tuple(windows), **found)
    if made.not_after and made.not_after <= made.not_before:
        raise ValueError("not_after must be later than not_before")
    return made


def _each(given: Any) -> Iterator[Any]:
    if isinstance(given, list) and not isinstance(given, Pairs):
        yield from given
    else:
        yield given


def _window(given: Any) -> Window:
    if not isinstance(given, Pairs):
        raise ValueError("time must be a block")  # noqa: TRY004  (one error type for all faults)
    held = dict(given)
    if len(held) != len(given) or not held.keys() <= {"days", "start", "end"} or not held:
        raise ValueError("time has days, start and end, each at most once")
    days = held.get("days", [])
    if not isinstance(days, list) or not all(day in _DAYS for day in days):
        raise ValueError(f"days must be a list of {', '.join(_DAYS)}")
    start, end = _minutes(held.get("start", "00:00"), "start"), _minutes(held.get("end", "24:00"), "end")
    if start in {end, _DAY_MINUTES}:
        raise ValueError("a time window must begin before it ends, and before midnight")
    return Window(days=tuple(sorted({_DAYS.index(day) for day in days})), start=start, end=end)


def _minutes(value: Any, name: str) -> int:
    match = _CLOCK.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{name} must be a time of day in UTC such as "08:30"')
    return _DAY_MINUTES if match[1] is None else int(match[1]) * 60 + int(match[2])


def read_time(value: Any, name: str) -> float:
    """Seconds since the epoch of a number, a text of digits, or an RFC 3339 time. Raises ValueError."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and text.isdecimal() and text.isascii() and len(text) <= 11:
        return float(text)
    if isinstance(text, str) and re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text
    ):
        try:
            return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
        except ValueError:
            pass  # no such day or hour: as any other text that is no time
    raise ValueError(f'{name}: could not parse {text!r} as date and time; write "2027-01-31T08:00:00Z"')


def _networks(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, Pairs) or not isinstance(value, list) or not value or len(value) > _MAX_ENTRIES:
        raise ValueError(f'{name} must be a list of networks such as "10.0.0.0/8"')
    try:
        return tuple(str(ipaddress.ip_network(text)) for text in map(_text, value))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")  # noqa: TRY004  (one error type for all faults)
    return value


def _mfa(value: Any, name: str) -> bool:
    if value is not True:
        raise ValueError(f"{name} can only be true: leave it out where it is not demanded")
    return True


def _tags(value: Any, name: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Pairs) or not value or len(value) > _MAX_ENTRIES:
        raise ValueError(f"{name} must be an object of lists")
    found: dict[str, tuple[str, ...]] = {}
    for tag, given in value:
        values = tuple(map(_text, _each(given)))
        if tag in found or not _TAG.match(tag) or not values or len(values) > _MAX_ENTRIES:
            raise ValueError(f"{name}: {tag!r} must be a name in lower case, once, with one value or more")
        found[tag] = values
    return found


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "not_before": read_time,
    "not_after": read_time,
    "networks": _networks,
    "mfa": _mfa,
    "tags": _tags,
}
