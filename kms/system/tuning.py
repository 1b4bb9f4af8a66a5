"""What of a mount can be tuned: the one place that checks and shows these settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kms.durations import seconds
from kms.errors import invalid
from kms.operation import Field, Record, Type
from kms.system import lockout
from kms.system.mounts import Mount

SYSTEM_LEASE_TTL: Final = 2_764_800
"""768 h, the Vault default."""
LISTS: Final = (
    "audit_non_hmac_request_keys",
    "audit_non_hmac_response_keys",
    "passthrough_request_headers",
    "allowed_response_headers",
)
TTLS: Final = ("default_lease_ttl", "max_lease_ttl")
_VISIBILITIES: Final = ("", "hidden", "unauth")
_UNTUNABLE: Final = ("sys/", "cubbyhole/")
_TUNABLE: Final = frozenset((*TTLS, *LISTS, "description", "listing_visibility", "options"))
_MAX_ITEMS: Final = 100

FIELDS: Final = (
    *(Field(name, Type.ANY, record=Record.CLEAR) for name in TTLS),
    *(Field(name, Type.STRINGS, record=Record.CLEAR) for name in LISTS),
    Field("description"),
    Field("listing_visibility", record=Record.CLEAR),
    Field("options", Type.MAP),
    Field("token_type", record=Record.CLEAR),
    Field("plugin_version", record=Record.CLEAR),
    Field("user_lockout_config", Type.MAP, record=Record.CLEAR),
)
"""Arguments of a tuning."""


def lists_of(mount: Mount) -> dict[str, Any]:
    """Those settings of a mount that are shown only when they are set."""
    shown: dict[str, Any] = {name: list(getattr(mount, name)) for name in LISTS if getattr(mount, name)}
    if mount.listing_visibility:
        shown["listing_visibility"] = mount.listing_visibility
    return shown


def tunings_of(mount: Mount) -> dict[str, Any]:
    """The same, as the tuning of a mount shows them: with its lockout."""
    return lists_of(mount) | lockout.shown(mount.lockout)


def first_settings(config: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The settings of a new mount, from the `config` object of its creation.

    Args:
        config: as the caller sent it.
        what: "auth" or "mount", for the text.

    Raises:
        KmsError(INVALID): one of them is not possible.
    """
    if config.get("user_lockout_config"):
        # Only a tuning sets it: taken here it would do nothing, and nobody would know.
        raise invalid(f"unable to convert given {what} config information")
    settings: dict[str, Any] = {name: _ttl(name, config.get(name) or 0) for name in TTLS}
    if settings["max_lease_ttl"] and settings["default_lease_ttl"] > settings["max_lease_ttl"]:
        raise invalid("given default lease TTL greater than given max lease TTL")
    settings["listing_visibility"] = _visibility(config.get("listing_visibility") or "")
    for name in LISTS:
        settings[name] = _texts(name, config.get(name) or ())
    return settings


def tuned(path: str, mount: Mount, args: Mapping[str, Any], given: frozenset[str]) -> Mount:
    """The mount with the settings that the caller gave.

    Raises:
        KmsError(INVALID): one of them is not possible; none is changed.
    """
    if path in _UNTUNABLE and given & _TUNABLE:
        raise invalid(f"cannot tune parameter {min(given & _TUNABLE)} of {path}")
    if args.get("plugin_version"):
        raise invalid(f"plugin not found in the catalog: {mount.type}, version={args['plugin_version']}")
    # `bao auth tune` and `bao secrets tune` always send both, empty where they say nothing of them.
    changes: dict[str, Any] = {name: _ttl(name, args[name]) for name in TTLS if args[name] not in (None, "")}
    default, longest = (changes.get(name, getattr(mount, name)) for name in TTLS)
    if longest and default > longest:
        raise invalid(
            f"backend max lease TTL of {longest} would be less than backend default lease TTL of {default}"
        )
    changes |= {name: _texts(name, args[name]) for name in LISTS if name in given}
    if "listing_visibility" in given:
        changes["listing_visibility"] = _visibility(args["listing_visibility"])
    if "description" in given:
        changes["description"] = args["description"]
    if "options" in given:
        merged = {**(mount.options or {}), **args["options"]}
        changes["options"] = {name: str(value) for name, value in merged.items() if value is not None} or None
    if "user_lockout_config" in given:
        changes["lockout"] = lockout.tuned(path, mount, args["user_lockout_config"] or {})
    return msgspec.structs.replace(mount, **changes)


def _ttl(name: str, value: object) -> int:
    if value == "system":
        return 0
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise invalid(f'{name} must be a duration, such as 3600 or "1h"')
    try:
        ttl = seconds(str(value))
    except ValueError as error:
        raise invalid(f"{name}: {error}") from None
    if ttl < 0:
        raise invalid(f"{name} must not be negative")
    return ttl


def _visibility(value: str) -> str:
    if value not in _VISIBILITIES:
        raise invalid(f"invalid listing_visibility {value}")
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise invalid(f"{name} must be a list of texts")
    if len(value) > _MAX_ITEMS or any(len(text) > 256 for text in value):
        raise invalid(f"{name}: at most {_MAX_ITEMS} texts of 256 characters")
    return tuple(text.strip() for text in value if text.strip())
