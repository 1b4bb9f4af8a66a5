"""What the records say was done: every event once, every intent ended."""

from __future__ import annotations

from kms.audit.event import CLOSING, Event
from kms.audit.record import RecordLine
from kms.audit.verify.report import BadError

STALE_INTENT_SECONDS = 300.0


class Acts:
    """Collects over all segments; `check` at the end, because an intent may be ended in another segment."""

    def __init__(self) -> None:
        self._once: dict[bytes, str] = {}
        self._intents: dict[str, tuple[float, str, str]] = {}
        self._ended: set[str] = set()
        self.unknown: list[str] = []

    def add(self, record: RecordLine, event: Event, place: str, *, covered: bool) -> None:
        """Take note of one record."""
        if not record.tx:
            return
        key = record.tx.encode()
        if key in self._once:
            raise BadError(place, f"event {record.tx} stands in the log twice, first in {self._once[key]}")
        self._once[key] = place
        if event.phase == "intent" and covered:
            self._intents[event.id] = (record.wall, place, event.operation)
        elif event.phase in CLOSING:
            self._ended.add(event.id)
            if event.outcome == "unknown":
                self.unknown.append(f"{event.operation} {event.resource} ({event.id})")

    def check(self, wall: float) -> int:
        """Raise BadError for an intent left open too long before `wall`; returns how many are open."""
        still_open = 0
        for event_id, (when, place, operation) in self._intents.items():
            if event_id in self._ended:
                continue
            if wall - when > STALE_INTENT_SECONDS:
                raise BadError(place, f"the intent of {operation} ({event_id}) was never ended")
            still_open += 1
        return still_open
