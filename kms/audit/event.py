"""What happened: one event of the audit log, before it has a place in a segment.

An event holds names, versions, counts and HMACs. It never holds a payload, a key, a token or a PIN:
the pipeline builds it from fields that an operation declared as recordable, and nothing else.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Phase = Literal["done", "intent", "outcome", "denied", "refused", "failed", "counted"]
"""done: it happened. intent: it is about to. outcome and failed: how an intent ended, or that the act
failed. denied: a known caller without the right. refused: a caller that we do not know. counted: a sum
of public calls or refusals over one window."""

CLOSING: frozenset[str] = frozenset({"outcome", "failed"})
"""Phases that end an intent."""


class Actor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who asked, without a credential."""

    accessor: str = ""
    display_name: str = ""
    entity_id: str = ""
    policies: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to record. Fields that hold their default are left out of the bytes.

    Args:
        id: UUID of the request; intent and outcome of one request share it.
        door: which dialect the caller spoke ("vault", "jobs").
        operation: the registered name ("transit.encrypt").
        resource: the canonical path that policy decided on.
        rule: the policy rule that decided.
        outcome: "ok", an error kind, or "unknown" for an intent whose end could not be found out.
        items: how many things were done (batch).
        subject: public facts: key id, version, serial.
        fields: arguments declared as recordable, clear or as HMAC.
        generation: sequence number of the newest change of the database that the decision saw.
        at: Unix seconds of the decision; the record line holds the time of writing.
        cut: paths of values that were shortened to keep the line within its bound.
        namespace: ID of the namespace of the request, "" for the root namespace: the path that `resource` begins with
            may be given again, the ID never is.
    """

    id: str
    phase: Phase
    operation: str
    resource: str = ""
    door: str = ""
    peer: str = ""
    principal: Actor = Actor()
    rule: str = ""
    outcome: str = "ok"
    items: int = 1
    subject: dict[str, str | int] = {}
    fields: dict[str, Any] = {}
    generation: int = 0
    at: float = 0.0
    cut: tuple[str, ...] = ()
    namespace: str = ""

    @property
    def key(self) -> str:
        """Identity of the event: written once under this name, whatever is retried."""
        return f"{self.id}/{self.phase}"
