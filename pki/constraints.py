"""Name constraints of our own issuers, enforced when we issue (RFC 5280 4.2.1.10).

Relying parties differ in which of them they enforce (facts: GnuTLS ignores URIs, pyca refuses them
all), so a leaf outside its issuer's constraints would be valid for some: it is never made.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from kms.errors import invalid
from pki.names import Names, is_hostname

_Check = tuple[Sequence[str], type[x509.GeneralName], Callable[[str, Any], bool]]


def check(names: Names, constraints: x509.NameConstraints | None) -> None:
    """Raises KmsError(INVALID) for the first name that the issuer may not certify.

    A common name that is a host name counts as one: Java and GnuTLS read it so.
    """
    if constraints is None:
        return
    hosts = list(names.dns)
    if is_hostname(names.common_name):
        hosts.append(names.common_name)
    checks: tuple[_Check, ...] = (
        (hosts, x509.DNSName, _dns_matches),
        (names.emails, x509.RFC822Name, _email_matches),
        ([str(ip) for ip in names.ips], x509.IPAddress, _ip_matches),
        (names.uris, x509.UniformResourceIdentifier, _uri_matches),
    )
    for values, kind, matches in checks:
        permitted = [tree.value for tree in constraints.permitted_subtrees or () if isinstance(tree, kind)]
        excluded = [tree.value for tree in constraints.excluded_subtrees or () if isinstance(tree, kind)]
        for value in values:
            inside = not permitted or any(matches(value, tree) for tree in permitted)
            if not inside or any(matches(value, tree) for tree in excluded):
                raise invalid(f"{value} is outside the name constraints of the issuing CA")


def _dns_matches(name: str, tree: str) -> bool:
    # A wildcard stands for names one level below its domain, so its domain must be inside as a whole.
    host, tree = name.removeprefix("*.").lower(), tree.lower()
    return not tree or host == tree or host.endswith("." + tree.removeprefix("."))


def _email_matches(address: str, tree: str) -> bool:
    return address == tree if "@" in tree else _host_matches(address.partition("@")[2], tree)


def _ip_matches(address: str, tree: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return ipaddress.ip_address(address) in tree


def _uri_matches(uri: str, tree: str) -> bool:
    return _host_matches(urlsplit(uri).hostname or "", tree)


def _host_matches(host: str, tree: str) -> bool:
    host, tree = host.lower(), tree.lower()
    return host.endswith(tree) if tree.startswith(".") else host == tree
