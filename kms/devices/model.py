"""Rows of audit devices, and their options once checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kms.errors import invalid
from kms.tables import Table

TYPES: Final = ("file", "http", "socket", "syslog")
_TRUE: Final = frozenset({"1", "t", "true", "T", "True", "TRUE"})
_FALSE: Final = frozenset({"0", "f", "false", "F", "False", "FALSE", ""})
_MAX_PREFIX: Final = 128


class AuditDevice(msgspec.Struct, frozen=True, kw_only=True):
    """An enabled device; the row key is its path, which ends in '/'.

    Args:
        options: as they were given.
        key: of the HMACs that stand for texts in its lines; 32 random bytes, its own.
    """

    type: str
    description: str
    options: dict[str, str]
    local: bool
    key: bytes


AUDIT_DEVICES: Final = Table("audit-device", "audit_devices", AuditDevice, cached=True, digest="system")


class AuditedHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A request header that audit devices keep; the row key is its name in lower case.

    Args:
        hmac: keep the HMAC of its values instead of the values.
    """

    hmac: bool = False


AUDITED_HEADERS: Final = Table(
    "audited-header", "audited_headers", AuditedHeader, cached=True, digest="system"
)


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """How a device writes: its options that are not about where.

    Args:
        raw: texts as they are instead of their HMACs.
        hmac_accessor: accessors as HMACs too.
        elide_lists: of answers to a list only how many keys there were.
        prefix: put before each line.
    """

    raw: bool = False
    hmac_accessor: bool = True
    elide_lists: bool = False
    prefix: str = ""


def form_of(options: Mapping[str, str]) -> Form:
    """The form that options ask for.

    Raises:
        KmsError(INVALID): an option that is not possible.
    """
    kind = options.get("format", "json")
    if kind == "jsonx":
        raise invalid(
            "jsonx formatting has been removed, consider switching to json by omitting "
            '"format" or setting it to "json"'
        )
    if kind not in ("", "json"):
        raise invalid(f'unknown format type "{kind}"')
    prefix = options.get("prefix", "")
    if len(prefix) > _MAX_PREFIX or not all(" " <= sign <= "~" for sign in prefix):
        raise invalid(f"prefix: at most {_MAX_PREFIX} printable ASCII characters")
    return Form(
        raw=truth("log_raw", options, default=False),
        hmac_accessor=truth("hmac_accessor", options, default=True),
        elide_lists=truth("elide_list_responses", options, default=False),
        prefix=prefix,
    )


def truth(name: str, options: Mapping[str, str], *, default: bool) -> bool:
    """An option that is true or false."""
    text = options.get(name)
    if text is None:
        return default
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise invalid(f"{name} must be true or false")
