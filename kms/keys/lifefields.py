"""The fields of a key's life as callers set them: dates, cryptoperiod, owner, contact, tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from kms.errors import invalid
from kms.keys.life import NEVER, Life, state_at
from kms.keys.states import State

MAX_TEXT: Final = 256  # characters of a reason, an owner, a contact, a tag's value
MAX_TAGS: Final = 50
MIN_CRYPTOPERIOD_SECONDS: Final = 3600
_TAG_NAME: Final = re.compile(r"[A-Za-z0-9_.:/=+@-]{1,128}\Z")
_IN_USE: Final = frozenset({State.PRE_ACTIVATION, State.ACTIVE, State.SUSPENDED})


def first_life(given: Mapping[str, Any], by: str, now: float) -> Life:
    """The life of a new key from the fields of its creation.

    Args:
        given: `pre_activation`, `activation_date` and the fields of `configured`.
        by: who makes it.
        now: Unix seconds.

    Raises:
        KmsError(INVALID): a field is not what it should be.
    """
    given = {name: value for name, value in given.items() if value}
    life = Life(created_by=by)
    if "pre_activation" in given or "activation_date" in given:
        life = replace(life, state=State.PRE_ACTIVATION, activation=NEVER)
    return configured(life, given, now)


def configured(life: Life, given: Mapping[str, Any], now: float) -> Life:
    """The life with those of its fields that are given; others in `given` are passed over.

    Raises:
        KmsError(INVALID): nothing is changed then.
    """
    state = state_at(life, now)
    changes = {
        attribute: read(given[name], state, now)
        for name, (attribute, read) in _FIELDS.items()
        if name in given
    }
    changed = replace(life, **changes)
    if NEVER > changed.activation >= changed.deactivation:
        raise invalid("activation_date must be before deactivation_date")
    return changed


def _activation(given: str, state: State, now: float) -> float:
    if state is not State.PRE_ACTIVATION:
        raise invalid(f"activation_date is for keys that are not active yet; this one is {state.value}")
    return _future("activation_date", given, now)


def _deactivation(given: str, state: State, now: float) -> float:
    if state not in _IN_USE:
        raise invalid(f"deactivation_date is for keys that are in use; this one is {state.value}")
    return _future("deactivation_date", given, now)


def _cryptoperiod(given: int, _state: State, _now: float) -> int:
    if given != 0 and given < MIN_CRYPTOPERIOD_SECONDS:
        raise invalid("cryptoperiod must be 0 for none, or at least an hour")
    return given


def text(name: str, given: str) -> str:
    """A short text that is printed in reports.

    Raises:
        KmsError(INVALID): too long, or not printable.
    """
    if len(given) > MAX_TEXT or not given.isprintable():
        raise invalid(f"{name} has at most {MAX_TEXT} printable characters")
    return given


def _tags(given: Mapping[str, Any]) -> dict[str, str]:
    if len(given) > MAX_TAGS:
        raise invalid(f"a key has at most {MAX_TAGS} tags")
    for name, value in given.items():
        if not _TAG_NAME.match(name):
            raise invalid("the name of a tag has 1 to 128 letters, digits and _.:/=+@-")
        if not isinstance(value, str):
            raise invalid(f"the value of tag {name} is not a string")
        text(f"tag {name}", value)
    return dict(sorted(given.items()))


def _future(name: str, given: str, now: float) -> float:
    """A time to come, from RFC 3339; "" is never."""
    if not given:
        return NEVER
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise invalid(f"{name} is a time as in 2027-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        raise invalid(f"{name} needs a time zone, as in 2027-01-31T00:00:00Z")
    seconds = moment.timestamp()
    if not now < seconds < NEVER:
        raise invalid(f"{name} lies in the past; the commands activate and deactivate act at once")
    return seconds


_FIELDS: Final[dict[str, tuple[str, Callable[[Any, State, float], Any]]]] = {
    "activation_date": ("activation", _activation),
    "deactivation_date": ("deactivation", _deactivation),
    "cryptoperiod": ("cryptoperiod", _cryptoperiod),
    "owner": ("owner", lambda given, _state, _now: text("owner", given)),
    "contact": ("contact", lambda given, _state, _now: text("contact", given)),
    "tags": ("tags", lambda given, _state, _now: _tags(given)),
}
FIELDS: Final = tuple(_FIELDS)
