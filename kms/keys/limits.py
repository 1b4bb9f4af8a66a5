"""Which keys a mount takes: its allowed types, a least strength, and a demand for the HSM.

What a mount demands its administrator may change; what the server's configuration demands nobody can
over the API. Limits are asked when a key comes to be, in whichever way: made, made by encrypt,
imported, agreed on, restored from a backup. Keys that are there go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from kms.errors import invalid
from kms.keys.catalogue import ALGORITHMS, Kind, Protection
from kms.keys.model import MountSettings, NamedKey

MAX_STRENGTH: Final = 256


def strength(key: NamedKey) -> int:
    """Security strength in bits (SP 800-57 part 1, table 2; SP 800-107 for HMAC keys)."""
    if key.algorithm.kind is Kind.MAC:
        return min(key.key_size * 8, MAX_STRENGTH)
    return key.algorithm.strength


def check_limits(settings: MountSettings, demand: str, key: NamedKey) -> None:
    """Refuse a new key that its mount, or the operator, does not want.

    Args:
        settings: of the mount.
        demand: the protection that the server's configuration demands, or "".
        key: as it would be.

    Raises:
        KmsError(INVALID): says the limit.
    """
    if settings.allowed_types and key.type not in settings.allowed_types:
        allowed = ", ".join(settings.allowed_types)
        raise invalid(f"this mount does not take keys of type {key.type}; it takes {allowed}")
    if strength(key) < settings.min_strength:
        raise invalid(
            f"a key of type {key.type} has a strength of {strength(key)} bits; this mount demands "
            f"{settings.min_strength}"
        )
    demanded = demand or settings.protection
    if demanded and key.protection.value != demanded:
        who = "this server's configuration" if demand else "this mount"
        raise invalid(f"{who} demands protection {demanded}, and this key would have {key.protection.value}")


def configured(settings: MountSettings, given: Mapping[str, Any]) -> MountSettings:
    """The settings of a mount with those that are given.

    Raises:
        KmsError(INVALID): nothing is changed then.
    """
    types = given.get("allowed_types", ())
    for type_ in types:
        if type_ not in ALGORITHMS:
            raise invalid(f"unknown key type {type_}")
    if not 0 <= given.get("min_strength", 0) <= MAX_STRENGTH:
        raise invalid(f"min_strength is 0 to {MAX_STRENGTH} bits")
    if given.get("protection", "") not in ("", Protection.HSM.value):
        raise invalid("protection is 'hsm' to demand it, or '' to leave it to the caller")
    changes = dict(given)
    if "allowed_types" in changes:
        changes["allowed_types"] = tuple(sorted(set(types)))
    return replace(settings, **changes)


def shown(settings: MountSettings) -> dict[str, Any]:
    """What config/keys answers."""
    return {
        "disable_upsert": settings.disable_upsert,
        "allowed_types": list(settings.allowed_types),
        "min_strength": settings.min_strength,
        "protection": settings.protection,
    }
