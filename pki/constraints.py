"""Name constraints of our own issuers, enforced when we issue (RFC 5280 4.2.1.10).

Relying parties differ in which of them they enforce (facts: GnuTLS ignores URIs, pyca refuses them
all), so a leaf outside its issuer's constraints would be valid for some: it is never made. Those of
each CA above the issuer bind as well, as they do in a path validation.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from kms.errors import KmsError, invalid
from pki.names import Names, is_hostname, looks_like_ip

_Match = Callable[[str, Any], bool]
_Check = tuple[Sequence[str], type[x509.GeneralName], _Match, _Match]
Constraints = Sequence[x509.NameConstraints]


def path(chain: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """The issuer and the CAs above it, as far as each certifies the one before.

    What follows in a chain that somebody wrote by hand is no path.
    """
    found: list[x509.Certificate] = []
    for certificate in chain:
        if found and found[-1].issuer != certificate.subject:
            break
        found.append(certificate)
    return found


def of(chain: Iterable[x509.Certificate]) -> tuple[x509.NameConstraints, ...]:
    """The constraints along the path, the issuer's first."""
    found: list[x509.NameConstraints] = []
    for certificate in path(chain):
        try:
            found.append(certificate.extensions.get_extension_for_class(x509.NameConstraints).value)
        except x509.ExtensionNotFound:
            continue
    return tuple(found)


def check(names: Names, constraints: Constraints) -> None:
    """Raises KmsError(INVALID) for the first name that the issuer may not certify.

    A common name that is a host name counts as one: Java and GnuTLS read it so.
    """
    for each in constraints:
        _check(names, each)


def of_a_ca(names: Names) -> Names:
    """A CA's common name is no host name to anybody, even if it is one word."""
    return replace(names, common_name="")


def check_subject(subject: x509.Name, constraints: Constraints) -> None:
    """The same for the subject, which constraints of directory names limit where it is not empty."""
    own = _rdns(subject)
    if not own:
        return
    for each in constraints:
        permitted, excluded = _trees(each, x509.DirectoryName)
        inside = not permitted or any(own[: len(tree)] == tree for tree in map(_rdns, permitted))
        if not inside or any(own[: len(tree)] == tree for tree in map(_rdns, excluded)):
            raise _outside(subject.rfc4514_string())


def _check(names: Names, constraints: x509.NameConstraints) -> None:
    hosts = list(names.dns)
    if is_hostname(names.common_name):
        hosts.append(names.common_name)
    checks: tuple[_Check, ...] = (
        (hosts, x509.DNSName, _dns_inside, _dns_touches),
        (names.emails, x509.RFC822Name, _email_inside, _email_touches),
        ([str(ip) for ip in names.ips], x509.IPAddress, _ip_inside, _ip_inside),
        (names.uris, x509.UniformResourceIdentifier, _uri_inside, _uri_inside),
    )
    for values, kind, inside, touches in checks:
        permitted, excluded = _trees(constraints, kind)
        for value in values:
            permits = not permitted or any(inside(value, tree) for tree in permitted)
            if not permits or any(touches(value, tree) for tree in excluded):
                raise _outside(value)
            if kind is x509.UniformResourceIdentifier and (permitted or excluded) and not _uri_host(value):
                raise _outside(value)  # RFC 5280: "the application MUST reject"
    others = {tree.type_id.dotted_string for trees in _every(constraints, x509.OtherName) for tree in trees}
    for oid, text in names.others:
        if oid in others:  # how such names compare, nobody has written down
            raise _outside(f"{oid}: {text}")


def _trees(constraints: x509.NameConstraints, kind: type[x509.GeneralName]) -> tuple[list[Any], list[Any]]:
    """Permitted and excluded subtrees of a kind."""
    permitted, excluded = _every(constraints, kind)
    return [tree.value for tree in permitted], [tree.value for tree in excluded]


def _every(constraints: x509.NameConstraints, kind: type[x509.GeneralName]) -> tuple[list[Any], list[Any]]:
    both = (constraints.permitted_subtrees, constraints.excluded_subtrees)
    permitted, excluded = ([tree for tree in trees or () if isinstance(tree, kind)] for trees in both)
    return permitted, excluded


def _outside(name: str) -> KmsError:
    return invalid(f"{name} is outside the name constraints of the issuing CA")


def _dns_inside(name: str, tree: str) -> bool:
    # A wildcard stands for names one level below its domain, so its domain must be inside as a whole.
    host, tree = name.removeprefix("*.").lower(), tree.lower()
    return not tree or host == tree or host.endswith("." + tree.removeprefix("."))


def _dns_touches(name: str, tree: str) -> bool:
    """Whether a name is inside an excluded subtree, or a wildcard stands for one that is (CVE-2025-61727)."""
    tree = tree.lower().removeprefix(".")
    host = name.lower().removeprefix("*.")
    return _dns_inside(name, tree) or (name.startswith("*.") and tree.partition(".")[2] == host)


def _email_inside(address: str, tree: str) -> bool:
    local, _, host = address.rpartition("@")
    allowed, at, domain = tree.rpartition("@")
    return _host_inside(host, domain) and (not at or local == allowed)


def _email_touches(address: str, tree: str) -> bool:
    # Many a mail server takes no notice of capitals in the local part.
    return _email_inside(address.lower(), tree.lower())


def _ip_inside(address: str, tree: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return ipaddress.ip_address(address) in tree


def _uri_host(uri: str) -> str:
    """The host name that constraints of URIs are about; empty where it has none."""
    host = urlsplit(uri).hostname or ""
    return "" if looks_like_ip(host) else host


def _uri_inside(uri: str, tree: str) -> bool:
    return _host_inside(_uri_host(uri), tree)


def _host_inside(host: str, tree: str) -> bool:
    host, tree = host.lower(), tree.lower()
    return host.endswith(tree) if tree.startswith(".") else host == tree


def _rdns(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    """A name for comparison: without regard to capitals and runs of blanks (RFC 5280 7.1)."""
    return [
        frozenset((each.oid.dotted_string, " ".join(str(each.value).casefold().split())) for each in rdn)
        for rdn in name.rdns
    ]
