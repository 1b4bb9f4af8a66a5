"""From where a credential may be used: lists of networks (CIDR, RFC 4632 and 4291), compared with the peer's address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from kms.errors import invalid

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def canonical_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """The stored spelling. A single address is a network of one; host bits are cut off, as the peer does.

    Raises:
        KmsError(INVALID): not a network.
    """
    return tuple(str(_parse(text)) for text in texts)


def shown_networks(networks: Iterable[str]) -> list[str]:
    """As the API shows the bounds of tokens: a network of one by its address alone, as it was written."""
    return [_short(_parse(text)) for text in networks]


def _short(network: _Network) -> str:
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address if alone else network)


def permits(networks: tuple[str, ...], peer: str) -> bool:
    """Whether the address may be the source. No list permits every address; a list none that is unknown."""
    if not networks:
        return True
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _compiled(networks))


def within(networks: Iterable[str], bounds: Iterable[str]) -> bool:
    """Whether each network lies inside one of the bounds; no bounds allow all."""
    outer = [_parse(text) for text in bounds]
    return not outer or all(any(_inside(_parse(text), bound) for bound in outer) for text in networks)


def _inside(network: _Network, bound: _Network) -> bool:
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(bound, ipaddress.IPv4Network) and network.subnet_of(bound)
    return isinstance(bound, ipaddress.IPv6Network) and network.subnet_of(bound)


def _parse(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise invalid(f"{text[:64]!r} is not an address or a network such as 10.1.0.0/16") from None


@lru_cache(1024)
def _compiled(networks: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(_parse(text) for text in networks)
