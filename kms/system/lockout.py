"""`user_lockout_config` of an auth mount: when its names are locked (kms.identity.methods.lockout does it)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kms.durations import seconds
from kms.errors import invalid
from kms.operation import LockoutRule
from kms.system.mounts import Mount

TYPES: Final = ("userpass", "approle", "ldap")
"""Methods whose logins can be guessed."""
_TIMES: Final = {
    "lockout_duration": "lockout_duration",
    "lockout_counter_reset": "lockout_counter_reset",
    "lockout_counter_reset_duration": "lockout_counter_reset",
}
_BOUND: Final = 2**31


def tuned(path: str, mount: Mount, given: Mapping[str, Any]) -> LockoutRule:
    """The rule with what the caller gave.

    Raises:
        KmsError(INVALID): another type of mount, or a value that is none.
    """
    if not path.startswith("auth/") or mount.type not in TYPES:
        raise invalid(f'tuning of user lockout configuration for auth type "{mount.type}" not allowed')
    rule = mount.lockout or LockoutRule()
    changes: dict[str, Any] = {
        field: _time(name, given[name]) for name, field in _TIMES.items() if name in given
    }
    if "lockout_threshold" in given:
        changes["lockout_threshold"] = _count(given["lockout_threshold"])
    if "lockout_disable" in given:
        if not isinstance(given["lockout_disable"], bool):
            raise invalid("unable to convert given user lockout config information")
        changes["lockout_disable"] = given["lockout_disable"]
    return replace(rule, **changes)


def shown(rule: LockoutRule | None) -> dict[str, Any]:
    """As the tuning of a mount shows it; nothing where it never was tuned."""
    if rule is None:
        return {}
    return {
        "user_lockout_counter_reset_duration": rule.lockout_counter_reset,
        "user_lockout_disable": rule.lockout_disable,
        "user_lockout_duration": rule.lockout_duration,
        "user_lockout_threshold": rule.lockout_threshold,
    }


def _count(value: object) -> int:
    text = str(value)
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) >= _BOUND:
        raise invalid(
            f'unable to parse user lockout threshold: strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def _time(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise invalid(f'{name} must be a duration, such as 900 or "15m"')
    try:
        time = seconds(str(value))
    except ValueError as error:
        raise invalid(f"{name}: {error}") from None
    if not 0 <= time < _BOUND:
        raise invalid(f"{name} must not be negative")
    return time
