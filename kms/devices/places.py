"""Where a device may write: the operator's folders and networks, and nothing else."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kms.config.devices import AuditDevicesConfig
from kms.errors import invalid


@dataclass(frozen=True)
class Endpoint:
    """A host, by name or address, and a port."""

    host: str
    port: int


class Places:
    """The operator's bounds."""

    def __init__(self, config: AuditDevicesConfig) -> None:
        self.config = config
        self._networks = [ipaddress.ip_network(text) for text in config.networks]

    def file(self, text: str) -> Path:
        """The path of a file in one of the folders.

        Raises:
            KmsError(INVALID): it is not, or not in this spelling: no link, no way up.
        """
        path = Path(text)
        if not self.config.folders:
            raise invalid("the configuration names no folder for audit devices: [audit_devices] folders")
        plain = path.is_absolute() and "\x00" not in text and text == str(path) == os.path.normpath(text)
        folder = next((one for one in self.config.folders if path.parent == one), None)
        if not plain or folder is None or path.name.startswith("."):
            raise invalid(f"{text!r} is not a file in one of the folders that the configuration names")
        # The folder is the operator's, and so is what it links to; below it nothing is followed.
        if not folder.is_dir():
            raise invalid(f"the folder {folder} does not exist; make it, for this server's user only")
        return path

    def endpoint(self, text: str) -> Endpoint:
        """`host:port`.

        Raises:
            KmsError(INVALID): not of this form, or an address outside the networks.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise invalid(f"address {text!r} must be host:port")
        found = Endpoint(host.removeprefix("[").removesuffix("]"), int(port))
        try:
            self.address(found)
        except PermissionError as error:
            raise invalid(str(error)) from None
        except OSError:  # the name is not known now; asked again for each connection
            if not self._networks:
                raise invalid(_outside(text)) from None
        return found

    def address(self, endpoint: Endpoint) -> tuple[int, Any]:
        """(family, socket address) to connect to now; the one that was judged is the one that is used.

        Raises:
            PermissionError: it lies outside the networks. OSError: the name is not known.
        """
        for family, _, _, _, target in socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM
        ):
            if any(ipaddress.ip_address(target[0]) in network for network in self._networks):
                return family, target
        raise PermissionError(_outside(endpoint.host))


def _outside(text: str) -> str:
    return f"{text} is in none of the networks that the configuration allows: [audit_devices] networks"
