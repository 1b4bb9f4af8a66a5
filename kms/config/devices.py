"""The [audit_devices] section of the configuration: where audit devices may write."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from kms.errors import invalid

DEV_LOG: Final = Path("/dev/log")


class AuditDevicesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds of what sys/audit can enable. No API widens them.

    Args:
        folders: `file` devices, and sockets in the file system, must lie in one of these, which must exist.
        networks: where `socket` and `http` devices may connect to.
        syslog: the local syslog's socket.
        allow_raw: whether a device may hold secrets in clear (log_raw).
        allow_prefix: whether a device may put a text before each line.
    """

    folders: tuple[Path, ...] = ()
    networks: tuple[str, ...] = ()
    syslog: Path = DEV_LOG
    allow_raw: bool = False
    allow_prefix: bool = False


def check_networks(networks: Iterable[str], key: str) -> None:
    """Raise KmsError(INVALID) for texts that are no networks; `key` names the setting."""
    for text in networks:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise invalid(f"{key}: {error}") from None


def devices_lines(section: AuditDevicesConfig) -> list[str]:
    """The section's lines in TOML; none for the defaults."""
    if section == AuditDevicesConfig():
        return []
    folders = msgspec.json.encode([str(folder) for folder in section.folders]).decode()
    networks = msgspec.json.encode(section.networks).decode()
    return ["", "[audit_devices]", f"folders = {folders}", f"networks = {networks}"]
