"""Intents that a crash left without an outcome, closed at start."""

from __future__ import annotations

from collections.abc import Iterable

from kms.audit.event import Event
from kms.audit.recorder import Recorder
from kms.operation import Operation
from kms.registry import Registry
from kms.tables import Store


def resolve_intents(
    registry: Registry, open_intents: Iterable[Event], *, store: Store, recorder: Recorder
) -> list[Event]:
    """Close every intent that a crash left without an outcome.

    Each operation finds out whether its act happened and finishes or undoes it. Where nobody can
    know, the outcome is `unknown`, which alarms.

    Args:
        registry: where the operations are looked up.
        open_intents: intents of processes that are gone.
        store: the database.
        recorder: of the process that resolves.

    Returns:
        The outcome events written, in order.
    """
    return [_resolve(registry[intent.operation], intent, store, recorder) for intent in open_intents]


def _resolve(operation: Operation, intent: Event, store: Store, recorder: Recorder) -> Event:
    external = operation.resolve(intent.subject) if operation.resolve is not None else None
    done = external.perform() if external is not None else None
    with store.transaction() as tx:
        outcome, subject = "unknown", intent.subject
        if external is not None:
            result = external.conclude(tx, done)
            outcome, subject = "undone" if result.partial else "ok", dict(result.subject)
        event = Event(
            id=intent.id,
            phase="outcome",
            door="jobs",
            operation=intent.operation,
            resource=intent.resource,
            principal=intent.principal,
            rule=intent.rule,
            outcome=outcome,
            subject=subject,
        )
        staged = recorder.stage(tx, event)
    recorder.publish(staged)
    if external is not None and external.after is not None:
        external.after()
    return event
