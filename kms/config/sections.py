"""Sections of the configuration file that stand for themselves; `kms.config` reads the file."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

import msgspec

from kms.durations import seconds
from kms.errors import invalid

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_TagName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_.-]{1,64}$")]
_TagValue = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]

Tags = dict[_TagName, _TagValue]
Kind = Literal["destroy", "export", "rotate-root"]


class AcmeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the server may connect to on the word of an ACME client. No API widens it.

    Args:
        networks: addresses of other networks are refused. Loopback, link-local (with the metadata services of clouds),
            multicast and their like need an entry that lies inside them. "0.0.0.0/0" and "::/0" open the Internet.
        http_port: of http-01, 80 by the RFC.
        tls_port: of tls-alpn-01, 443 by the RFC.
    """

    networks: tuple[str, ...] = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
    http_port: _Port = 80
    tls_port: _Port = 443


class ApprovalsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The consent that requests need, whoever makes them, root too. No API changes it.

    Args:
        approvals: how many different people besides the one who asks.
        operations: kinds of requests that need it.
        paths: patterns, as in policies, of further requests that need it.
        groups: names or ids of identity groups whose members may consent.
        policies: names of policies whose holders may consent.
        max_ttl: the longest that any request waits for consent, also where a policy demands it.
    """

    approvals: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    operations: tuple[Kind, ...] = ()
    paths: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    max_ttl: str = "24h"

    @property
    def max_seconds(self) -> int:
        """`max_ttl` in seconds."""
        return seconds(self.max_ttl)


def check_sections(acme: AcmeSection, approvals: ApprovalsSection | None, name: str) -> None:
    """What the types do not say. Raises KmsError(INVALID); `name` is the file's."""
    for text in acme.networks:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise invalid(f"{name}: acme.networks: {error}") from None
    if approvals is not None:
        _check_approvals(approvals, name)


def _check_approvals(section: ApprovalsSection, name: str) -> None:
    if not section.groups and not section.policies:
        raise invalid(f"{name}: [approvals] needs groups or policies: who is to consent?")
    if not section.operations and not section.paths:
        raise invalid(f"{name}: [approvals] needs operations or paths: to what?")
    for path in section.paths:
        if not path or path.startswith("/") or "+*" in path or "{{" in path:
            raise invalid(f'{name}: approvals.paths: "{path}" is no pattern of a policy')
    try:
        if section.max_seconds < 1:
            raise invalid(f"{name}: approvals.max_ttl must be at least a second")
    except ValueError as error:
        raise invalid(f"{name}: approvals.max_ttl: {error}") from None
