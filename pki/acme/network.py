"""Where the server may connect to on a stranger's word: the guard against SSRF, and the one way out.

Whoever may order a certificate chooses names, and so addresses, that this server then talks to. So:
- an address is used only if a network of the operator's list holds it ([acme] networks in the configuration), and one
  of the mount's where it has a list of its own;
- loopback, link-local (with the clouds' metadata addresses), multicast and other special ranges are in no wider
  network: only an entry that lies inside such a range opens it;
- IPv4 inside IPv6 (mapped, 6to4, NAT64, Teredo) is special as well: it would be another spelling of an IPv4 address;
- every address of a name must be allowed, not only the one that is used;
- the connection goes to the address that was judged: a name is resolved once.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pki.acme.problems import AcmeProblem
from pki.names import IpAddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CONNECT_SECONDS = 5.0
_SPECIAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # shared, with one cloud's metadata service
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, with most clouds' metadata service
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/8",  # unspecified, loopback, IPv4-mapped and -compatible, NAT64
        "100::/64",
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fd00:ec2::/32",  # one cloud's metadata service
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)


class Fleeting(AcmeProblem):
    """A failure that may be over in a moment: a name not known yet, a port not open yet."""


@dataclass(frozen=True)
class Reach:
    """Networks and ports of validation.

    Args:
        networks: the operator's list.
        narrowed: the mount's, empty for the operator's alone.
        http_port, tls_port: 80 and 443, or what the operator's configuration says.
    """

    networks: tuple[Network, ...]
    narrowed: tuple[Network, ...] = ()
    http_port: int = 80
    tls_port: int = 443

    def demand(self, addresses: Sequence[IpAddress]) -> None:
        """Raise AcmeProblem(connection) unless each of the addresses may be connected to."""
        for address in addresses:
            if not self._allows(address):
                raise AcmeProblem(
                    "connection",
                    f"the server must not connect to {address}: no allowed network ([acme] networks of the server,"
                    " allowed_networks of config/acme) holds it",
                )

    def _allows(self, address: IpAddress) -> bool:
        if not _held(address, self.networks):
            return False
        return not self.narrowed or _held(address, self.narrowed)


def _held(address: IpAddress, networks: Sequence[Network]) -> bool:
    special = next((one for one in _SPECIAL if address in one), None)
    return any(address in network and (special is None or _inside(network, special)) for network in networks)


def _inside(network: Network, special: Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(special, ipaddress.IPv4Network) and network.subnet_of(special)
    return isinstance(special, ipaddress.IPv6Network) and network.subnet_of(special)


@contextmanager
def connected(addresses: Sequence[IpAddress], port: int, seconds: float) -> Iterator[socket.socket]:
    """A TCP connection to the first address that answers; it is cut off after `seconds`, whatever happens on it.

    Raises:
        Fleeting(connection): none answers.
    """
    opened = _open(addresses, port)
    # Time-outs of a socket are per call, so a peer that sends a byte now and then would hold it for ever.
    cut = threading.Timer(seconds, _cut, (opened,))
    cut.daemon = True
    cut.start()
    try:
        yield opened
    finally:
        cut.cancel()
        opened.close()


def _open(addresses: Sequence[IpAddress], port: int) -> socket.socket:
    failure = "it has no address"
    for address in addresses:
        try:
            return socket.create_connection((str(address), port), timeout=CONNECT_SECONDS)
        except OSError as error:
            failure = f"{address} port {port}: {error.strerror or 'timed out'}"
    raise Fleeting("connection", f"cannot connect: {failure}")


def _cut(opened: socket.socket) -> None:
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already
