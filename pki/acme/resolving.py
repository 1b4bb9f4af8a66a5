"""DNS for validation: the configured resolver or the system's, bounded in time, and nothing from /etc/hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from pki.acme.network import Fleeting
from pki.names import IpAddress, canonical_ip

SECONDS = 5.0  # of all tries of one question
_TRY_SECONDS = 2.0
MAX_ADDRESSES = 16
MAX_RECORDS = 64


class Resolver:
    """Asks for one mount.

    Args:
        server: "address:port", or "" for the system's resolvers.
    """

    def __init__(self, server: str) -> None:
        if server:
            host, _, port = server.rpartition(":")
            self._resolver = dns.resolver.Resolver(configure=False)
            self._resolver.nameservers = [host.removeprefix("[").removesuffix("]")]
            self._resolver.port = int(port)
        else:
            try:
                self._resolver = dns.resolver.Resolver()
            except dns.resolver.NoResolverConfiguration:
                raise Fleeting(
                    "dns", "the server has no DNS resolver: set dns_resolver in config/acme"
                ) from None
        self._resolver.cache = None
        self._resolver.lifetime = SECONDS
        self._resolver.timeout = _TRY_SECONDS
        self._resolver.search = []

    def addresses(self, host: str) -> list[IpAddress]:
        """All addresses of a host, IPv6 first. Raises Fleeting(dns)."""
        found: list[IpAddress] = []
        for kind in ("AAAA", "A"):
            found += [canonical_ip(ipaddress.ip_address(record.address)) for record in self._ask(host, kind)]
        if not found:
            raise Fleeting("dns", f"{host} has no address")
        if len(found) > MAX_ADDRESSES:
            raise Fleeting("dns", f"{host} has more than {MAX_ADDRESSES} addresses")
        return found

    def texts(self, host: str) -> list[bytes]:
        """The TXT records of a name, the strings of each joined. Raises Fleeting(dns)."""
        return [b"".join(record.strings) for record in self._ask(host, "TXT")]

    def authorities(self, host: str) -> list[Any]:
        """Its CAA records (RFC 8659). Raises Fleeting(dns) when the answer is not known."""
        return list(self._ask(host, "CAA"))

    def _ask(self, host: str, kind: str) -> Sequence[Any]:
        try:
            answer = self._resolver.resolve(
                dns.name.from_text(host), dns.rdatatype.from_text(kind), raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return ()
        except dns.exception.DNSException as error:
            raise Fleeting("dns", f"looking up {kind} of {host} failed: {type(error).__name__}") from None
        records = list(answer.rrset or ())
        if len(records) > MAX_RECORDS:
            raise Fleeting("dns", f"{host} has more than {MAX_RECORDS} {kind} records")
        return records
