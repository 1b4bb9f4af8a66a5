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
    """

    name: str
    text: str
    document: PolicyDocument
    language: int
    modified: float
    version: int = 1


POLICIES = Table("policy", "policies", PolicyRow, cached=True, digest="policy")
"""Keyed by canonical name."""
