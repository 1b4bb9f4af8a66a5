"""Addresses to listen on: an IP address and a port."""

from __future__ import annotations

import ipaddress

from kms.errors import invalid


def split_address(listen: str) -> tuple[str, int]:
    """The (host, port) of "127.0.0.1:8200" or "[::1]:8200".

    Raises:
        KmsError(INVALID): not an IP address and a port.
    """
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port) if port.isdecimal() else -1
    except ValueError:
        number = -1
    if not 1 <= number <= 65535:
        raise invalid(f'listen must be an IP address and a port, like "127.0.0.1:8200", not "{listen}"')
    return str(address), number


def is_loopback(listen: str) -> bool:
    """Whether only this machine can connect."""
    return ipaddress.ip_address(split_address(listen)[0]).is_loopback
