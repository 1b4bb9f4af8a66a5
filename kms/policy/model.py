"""What a policy text says, once it is read: rules over path patterns. Pure values."""

from __future__ import annotations

import msgspec

Scalar = str | int | float | bool

DENY = "deny"
SUDO = "sudo"
# `scan` is OpenBao's recursive list. No operation of ours asks for it, but texts that grant it are
# accepted and reported, so that a policy can move between the servers unchanged.
GRANTS = frozenset({"create", "read", "update", "patch", "delete", "list", "scan", SUDO, DENY})


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
    """

    path: str
    grants: tuple[str, ...]
    allowed: dict[str, tuple[Scalar, ...]] | None = None
    denied: dict[str, tuple[Scalar, ...]] | None = None
    required: tuple[str, ...] = ()
    min_wrapping_ttl: int = 0
    max_wrapping_ttl: int = 0


class PolicyDocument(msgspec.Struct, frozen=True):
    """A parsed policy text: its rules in the order written."""

    rules: tuple[Rule, ...] = ()
