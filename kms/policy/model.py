"""What a policy text says, once it is read: rules over path patterns. Pure values."""

from __future__ import annotations

import msgspec

Scalar = str | int | float | bool

DENY = "deny"
SUDO = "sudo"
# `scan` is OpenBao's recursive list. No operation of ours asks for it, but texts that grant it are
# accepted and reported, so that a policy can move between the servers unchanged.
GRANTS = frozenset({"create", "read", "update", "patch", "delete", "list", "scan", SUDO, DENY})


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """One group of people whose consent a request needs.

    Args:
        capabilities: of the requests that need it, sorted.
        groups: names or ids of identity groups whose members may consent.
        policies: names of policies whose holders may consent.
        approvals: how many different people, at least 1.
    """

    name: str
    capabilities: tuple[str, ...]
    groups: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    approvals: int = 1


class ControlGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The consent of other people that requests on a path need.

    Args:
        factors: each of them must be satisfied.
        ttl: seconds that a request waits, and that a consent counts; 0 for the server's default.
        self_allowed: the requester may be one of those who consent.
    """

    factors: tuple[Factor, ...]
    ttl: int = 0
    self_allowed: bool = False


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A time of the week, in UTC.

    Args:
        days: 0 Monday to 6 Sunday; empty for all. A window that passes midnight belongs to the day it began.
        start: minutes since midnight.
        end: minutes since midnight, exclusive; not after `start` means over midnight.
    """

    days: tuple[int, ...]
    start: int
    end: int


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold besides; all that are given, and of each list one entry.

    Args:
        windows: times of the week.
        not_before: seconds since the epoch, 0 for none.
        not_after: seconds since the epoch, exclusive; 0 for none.
        networks: CIDR blocks that the request may come from.
        mfa: True: the login was confirmed by a second factor.
        tags: of the server's environment: name -> accepted values.
    """

    windows: tuple[Window, ...] = ()
    not_before: float = 0.0
    not_after: float = 0.0
    networks: tuple[str, ...] = ()
    mfa: bool = False
    tags: dict[str, tuple[str, ...]] = {}


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One `path` block.

    Args:
        path: the pattern without a leading slash; `+` is one segment, a last `*` is any suffix.
        grants: capability names, sorted; exactly ("deny",) when deny is among them.
        allowed: parameter name in lower case -> permitted values (empty: any); None: no restriction.
        denied: parameter name in lower case -> forbidden values (empty: all).
        required: parameters that must be present.
        min_wrapping_ttl: seconds, 0 for none.
        max_wrapping_ttl: seconds, 0 for none.
        expiration: seconds since the epoch from which on the rule is as if it were not written; 0 for never.
        pagination_limit: the most keys that one listing may ask for; 0 for no bound.
        filter_path: template of the path that must be readable for a key to be listed; "" for all keys.
        control_group: whose consent requests need.
        conditions: when the rule applies at all.
    """

    path: str
    grants: tuple[str, ...]
    allowed: dict[str, tuple[Scalar, ...]] | None = None
    denied: dict[str, tuple[Scalar, ...]] | None = None
    required: tuple[str, ...] = ()
    min_wrapping_ttl: int = 0
    max_wrapping_ttl: int = 0
    expiration: float = 0.0
    pagination_limit: int = 0
    filter_path: str = ""
    control_group: ControlGroup | None = None
    conditions: Conditions | None = None


class PolicyDocument(msgspec.Struct, frozen=True):
    """A parsed policy text: its rules in the order written.

    Args:
        wildcards: identity values may carry `*` and `+` into its patterns.
        slashes: identity values may carry `/` into them.
    """

    rules: tuple[Rule, ...] = ()
    wildcards: bool = False
    slashes: bool = False
