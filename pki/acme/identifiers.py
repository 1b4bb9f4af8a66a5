"""What an order may name, each identifier judged by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kms.errors import KmsError
from pki import constraints
from pki.acme.model import MAX_IDENTIFIERS, Identifier, Problem
from pki.acme.problems import AcmeProblem, compound, kept, malformed
from pki.authority import Authority
from pki.names import BadName, Names, check_dns, check_ip
from pki.roles import RoleRules

_WAYS: dict[str, tuple[str, ...]] = {
    "dns": ("http-01", "dns-01", "tls-alpn-01"),
    "ip": ("http-01", "tls-alpn-01"),  # RFC 8738 7: no dns-01
    "wildcard": ("dns-01",),  # RFC 8555 7.1.3 leaves it open; a name below says nothing about all names
}
CHALLENGE_TYPES = ("http-01", "dns-01", "tls-alpn-01")


def parse(given: Any) -> tuple[Identifier, ...]:
    """The identifiers of a new order, as they are compared from now on (host names in lower case).

    Raises:
        AcmeProblem(malformed, unsupportedIdentifier, rejectedIdentifier, compound).
    """
    if not isinstance(given, list) or not given:
        raise malformed("identifiers is a list of at least one identifier")
    if len(given) > MAX_IDENTIFIERS:
        raise malformed(f"an order has at most {MAX_IDENTIFIERS} identifiers")
    found, refused = [], []
    for one in given:
        if not isinstance(one, dict) or set(one) != {"type", "value"}:
            raise malformed("an identifier has a type and a value")
        kind, value = one["type"], one["value"]
        if not isinstance(kind, str) or not isinstance(value, str):
            raise malformed("type and value of an identifier are strings")
        try:
            found.append(_identifier(kind, value))
        except AcmeProblem as error:
            refused.append(kept(error, (kind[:20], value[:300])))
    if refused:
        raise compound(refused)
    if len(set(found)) != len(found):
        raise malformed("an identifier stands twice in the order")
    return tuple(found)


def _identifier(kind: str, value: str) -> Identifier:
    try:
        if kind == "dns":
            return Identifier("dns", check_dns(value).lower())
        if kind == "ip":
            address = check_ip(value)
            if str(address) != value:
                raise malformed(f"write the address as {address} (RFC 8738 3)")
            return Identifier("ip", value)
    except BadName as bad:
        raise AcmeProblem("rejectedIdentifier", f"no certificate can name it: {bad}", status=400) from None
    raise AcmeProblem("unsupportedIdentifier", "identifiers are of type dns or ip")


def judge(identifiers: Sequence[Identifier], rules: RoleRules, authority: Authority) -> None:
    """Raise AcmeProblem(rejectedIdentifier) for those that the role or the issuer's constraints refuse."""
    refused: list[Problem] = []
    for one in identifiers:
        try:
            rules.check(names_of((one,)), "", "the order")
            constraints.check(names_of((one,)), authority.constraints)
        except KmsError as error:
            problem = AcmeProblem("rejectedIdentifier", error.detail)
            refused.append(kept(problem, (one.type, one.value)))
    if refused:
        raise compound(refused)


def names_of(identifiers: Sequence[Identifier], common_name: str = "") -> Names:
    """The names that a certificate for these identifiers has."""
    return Names(
        common_name=common_name,
        dns=tuple(one.value for one in identifiers if one.type == "dns"),
        ips=tuple(check_ip(one.value) for one in identifiers if one.type == "ip"),
    )


def ways(identifier: Identifier, offered: Sequence[str]) -> tuple[str, ...]:
    """Challenge types for an identifier, of those that the mount offers."""
    kind = "wildcard" if identifier.wildcard else identifier.type
    return tuple(way for way in _WAYS[kind] if way in offered)
