"""Requests that wait, and the consent that they have: pure values."""

from __future__ import annotations

import msgspec

from kms.policy.model import ControlGroup
from kms.tables import Table


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One person's consent.

    Args:
        persons: every name that this person has: "entity/<id>", "login/<mount id>/<name>".
        shown: the display name of the token.
        groups: names and ids of the groups at that time.
        policies: of the token at that time.
        at: seconds since the epoch.
    """

    persons: tuple[str, ...]
    entity_id: str
    shown: str
    accessor: str
    groups: tuple[str, ...]
    policies: tuple[str, ...]
    at: float


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was put away.

    Args:
        accessor: of its wrapping token.
        arguments: JSON of what was sent, coerced: {"args": ..., "extra": ...}.
        token: row key of the token that asked.
        persons: every name of the one who asked.
        expires_at: seconds since the epoch.
    """

    accessor: str
    operation: str
    path: str
    capability: str
    mount_id: str
    arguments: bytes
    given: tuple[str, ...]
    bound: tuple[str, ...]
    wrap_ttl: int
    idempotency_key: str
    token: str
    token_accessor: str
    entity_id: str
    shown: str
    persons: tuple[str, ...]
    groups: tuple[ControlGroup, ...]
    created: float
    expires_at: float
    approvals: tuple[Approval, ...] = ()


CONSENTS = Table("consent", "consents", Waiting, digest="identity")
"""Keyed by the row key of the wrapping token, and deleted with it."""
