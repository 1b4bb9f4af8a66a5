"""What operators set under sys/config, and what sys/ remembers of itself: rows only."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kms.devices.model import AUDITED_HEADERS, AuditedHeader
from kms.tables import Table

CORS_KEY: Final = "cors"


class CorsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which web pages may read answers. No row: none.

    Args:
        origins: as browsers send them, or "*" alone for all.
        headers: that pages may send, besides those of the API itself.
    """

    origins: tuple[str, ...]
    headers: tuple[str, ...] = ()


class UiHeader(msgspec.Struct, frozen=True, kw_only=True):
    """A header of the console's pages; the row key is its name in canonical form."""

    values: tuple[str, ...]


class Remount(msgspec.Struct, frozen=True, kw_only=True):
    """A mount that was moved; the row key is the id that the caller got."""

    source: str
    target: str
    at: float
    namespace: str = ""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version of this program that was started on this database; the row key is the version.

    Args:
        previous: the one before it, "" for the first.
    """

    installed: float
    previous: str = ""


CORS = Table("cors", "cors_settings", CorsSettings, cached=True, digest="system")
UI_HEADERS = Table("ui-header", "ui_headers", UiHeader, digest="system")
REMOUNTS = Table("remount", "remounts", Remount, digest="system")
VERSIONS = Table("version", "versions", Version, sealed=False)

TABLES: tuple[Table[Any], ...] = (CORS, UI_HEADERS, AUDITED_HEADERS, REMOUNTS)
"""The sealed ones."""

__all__ = [
    "AUDITED_HEADERS",
    "CORS",
    "CORS_KEY",
    "REMOUNTS",
    "TABLES",
    "UI_HEADERS",
    "VERSIONS",
    "AuditedHeader",
    "CorsSettings",
    "Remount",
    "UiHeader",
    "Version",
]
