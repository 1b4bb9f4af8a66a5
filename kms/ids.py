"""Identifiers, all from the kernel's random source. Names of ids are types, so that they do not mix."""

from __future__ import annotations

import re
import secrets
from typing import NewType

from kms.errors import invalid

EventId = NewType("EventId", str)  # one request's audit id, UUID form
KeyId = NewType("KeyId", str)  # 32 hex characters; a key name may be reused, an id never
MountId = NewType("MountId", str)
Accessor = NewType("Accessor", str)  # 24 base62 characters
CkaId = NewType("CkaId", bytes)  # 16 bytes of ours, CKA_ID of a token object (finding H7)

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MAX_NAME_LENGTH = 128

# Names of keys, roles, policies and mounts: one canonical spelling, no separators, no dots alone.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*[A-Za-z0-9_\-])?\Z")


def base62(length: int) -> str:
    """`length` random base62 characters (5.95 bits each)."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def new_uuid() -> str:
    """A random (version 4) UUID in canonical form.

    Formatted by hand: every request takes one, and `uuid.uuid4` costs three times as much.
    """
    raw = secrets.token_bytes(16).hex()
    variant = "89ab"[int(raw[16], 16) & 3]
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-{variant}{raw[17:20]}-{raw[20:]}"


def new_event_id(now: float) -> str:
    """A version 7 UUID (RFC 9562 5.7): the milliseconds of `now` (Unix seconds), then 74 random bits.

    Rows that are named by it go in at the end of their table, and not each on a page of its own.
    """
    raw = secrets.token_bytes(10).hex()
    at = f"{int(now * 1000):012x}"
    variant = "89ab"[int(raw[3], 16) & 3]
    return f"{at[:8]}-{at[8:]}-7{raw[:3]}-{variant}{raw[4:7]}-{raw[7:19]}"


def new_id() -> str:
    """32 hex characters, 128 random bits."""
    return secrets.token_hex(16)


def new_cka_id() -> CkaId:
    """16 random bytes for CKA_ID."""
    return CkaId(secrets.token_bytes(16))


def check_name(name: str, what: str = "name") -> str:
    """Return `name` unchanged, or refuse it: names are never normalised behind the caller's back.

    Raises:
        KmsError(INVALID): empty, over 128 characters, or with characters outside [A-Za-z0-9_.-].
    """
    if len(name) > MAX_NAME_LENGTH or not _NAME.match(name):
        raise invalid(
            f"invalid {what}: use 1 to {MAX_NAME_LENGTH} letters, digits, '_', '-' or '.', "
            "starting with a letter, digit or '_' and not ending in '.'"
        )
    return name
