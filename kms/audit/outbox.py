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
from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.tables import Store, Transaction

FORGET_SECONDS = 120.0  # no transaction is open that long


class Staged:
    """An event on its way: in a transaction, then committed, then published."""

    __slots__ = ("event", "key", "receipt", "since")

    def __init__(self, key: str, event: bytes, since: float) -> None:
        self.key = key
        self.event = event
        self.since = since  # monotonic seconds
        self.receipt: Receipt | None = None


def stage(tx: Transaction, segment: str, event: Event, clock: Clock) -> Staged:
    """Add the event's rows to an open transaction.

    Raises:
        KmsError(CONFLICT): this event exists already, or the intent that it ends does not (any more).
    """
    now = clock.now()
    if not event.at:
        event = msgspec.structs.replace(event, at=now)
    data = encode_event(event)
    if event.phase == "intent":
        tx.insert(INTENTS, event.id, IntentRow(segment=segment, event=data, at=now))
    elif event.phase in CLOSING:
        _end_intent(tx, event)
    tx.insert(OUTBOX, event.key, OutboxRow(segment=segment, event=data, at=now))
    return Staged(event.key, data, clock.monotonic())


def _end_intent(tx: Transaction, event: Event) -> None:
    row = tx.get(INTENTS, event.id)
    if row is not None:
        tx.delete(INTENTS, row)
    elif event.phase == "outcome":
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
