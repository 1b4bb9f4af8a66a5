"""The outbox: events that are committed together with the state they describe.

An event stays in the outbox from the commit of its change until a checkpoint covers its record, so a process
that dies at any instant leaves either no change and no event, or both, and recovery finds out which.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kms.audit.event import CLOSING, Event
from kms.audit.receipt import Receipt
from kms.audit.record import encode_event
from kms.audit.store import INTENTS, OUTBOX, IntentRow, OutboxRow
from kms.audit.unfinished import Announced
from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.tables import Store, Transaction

FORGET_SECONDS = 120.0  # no transaction is open that long


class Staged:
    """An event on its way: in a transaction, then committed, then published."""

    __slots__ = ("ends", "event", "key", "receipt", "since")

    def __init__(self, key: str, event: bytes, since: float, ends: str) -> None:
        self.key = key
        self.ends = ends  # id of the written intent that it ends, or ""
        self.event = event
        self.since = since  # monotonic seconds
        self.receipt: Receipt | None = None


def stage(
    tx: Transaction, segment: str, event: Event, clock: Clock, announced: Announced | None = None
) -> Staged:
    """Add the event's rows to an open transaction; `announced` is the written intent that it ends.

    Raises:
        KmsError(CONFLICT): this event exists already, or the intent that it ends does not (any more).
    """
    event, now = timed(event, clock)
    data = encode_event(event)
    if event.phase == "intent":
        tx.insert(INTENTS, event.id, IntentRow(segment=segment, event=data, at=now))
    elif event.phase in CLOSING and (announced is None or announced.kept):
        _end_intent(tx, event, announced)
    intent = announced.event if announced is not None else b""
    tx.insert(OUTBOX, event.key, OutboxRow(segment=segment, event=data, at=now, intent=intent))
    return Staged(event.key, data, clock.monotonic(), event.id if announced is not None else "")


def timed(event: Event, clock: Clock) -> tuple[Event, float]:
    """The event with its time, and the time."""
    now = clock.now()
    return (event if event.at else msgspec.structs.replace(event, at=now)), now


def keep_intents(tx: Transaction, segment: str, waiting: Iterable[tuple[str, Announced]], now: float) -> None:
    """Put written intents that are still open into the database, where everybody can find them."""
    for event_id, announced in waiting:
        ended = any(tx.get(OUTBOX, f"{event_id}/{phase}") is not None for phase in CLOSING)
        if not ended and tx.get(INTENTS, event_id) is None:
            announced.kept = True
            tx.insert(INTENTS, event_id, IntentRow(segment=segment, event=announced.event, at=now))


def _end_intent(tx: Transaction, event: Event, announced: Announced | None) -> None:
    row = tx.get(INTENTS, event.id)
    if row is not None:
        tx.delete(INTENTS, row)
    elif event.phase == "outcome" and announced is None:
        raise KmsError(
            ErrorKind.CONFLICT,
            "this operation was ended by recovery after an interruption; look at its state",
        )


def sort_out(store: Store, waiting: Iterable[Staged], now: float) -> tuple[list[Staged], list[Staged]]:
    """Look what became of events that were staged and not published.

    Returns:
        Those that were committed and are owed to the log, and those to forget (rolled back).
    """
    owed: list[Staged] = []
    gone: list[Staged] = []
    reader = store.reader()
    for staged in waiting:
        if reader.get(OUTBOX, staged.key) is not None:
            owed.append(staged)
        elif now - staged.since > FORGET_SECONDS:
            gone.append(staged)
    return owed, gone
