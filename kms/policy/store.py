"""Rows of policies."""

from __future__ import annotations

import msgspec

from kms.policy.model import PolicyDocument
from kms.tables import Table


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as written, and as parsed then.

    Args:
        document: kept so that reading a policy on the hot path never runs the HCL parser.
        language: LANGUAGE_VERSION at the time; an older document is parsed again from `text`.
        modified: seconds since the epoch.
        version: 1 when first written, one more with each write.
        expiration: seconds since the epoch from which on it is as if it were deleted; 0 for never.
        cas_required: the next write must name the version that it replaces.
    """

    name: str
    text: str
    document: PolicyDocument
    language: int
    modified: float
    version: int = 1
    expiration: float = 0.0
    cas_required: bool = False


POLICIES = Table("policy", "policies", PolicyRow, cached=True, digest="policy")
"""Keyed by canonical name; what belongs to a namespace has its ID before it (`kms.namespaces.scoped`)."""
