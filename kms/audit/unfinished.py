"""Written intents: announced by a record of the log alone, and found there when their process has died.

An intent that stays open for `KEEP_AFTER_SECONDS` is put into the database by its recorder, so the end of a
segment is all that recovery has to read: `WINDOW_SECONDS`, which leaves the recorder time to find the
database busy and try again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from kms.audit.control import PREFIX
from kms.audit.event import CLOSING
from kms.audit.record import decode_record

KEEP_AFTER_SECONDS = 5.0
WINDOW_SECONDS = 120.0
_CHUNK = 1024 * 1024
_MONO = re.compile(rb'"mono":([0-9.]+)')
_PHASES = tuple(f'"phase":"{phase}"'.encode() for phase in ("intent", *sorted(CLOSING)))


class Announced:
    """A written intent that is open. `kept`: it is in the database, or about to be."""

    __slots__ = ("event", "kept", "since")

    def __init__(self, event: bytes, since: float) -> None:
        self.event = event
        self.since = since  # monotonic seconds
        self.kept = False


class LastPart:
    """What the last part of a dead segment says about intents.

    Attributes:
        written: event id -> event of each written intent, ended or not.
        ended: ids of intents whose end is there.
    """

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}
        self.ended: set[str] = set()


def read_last_part(fd: int, end: int) -> LastPart:
    """Read backwards from the offset after the last whole line.

    Raises:
        KmsError(INTEGRITY): a line in there is not what its writer wrote.
    """
    part = LastPart()
    newest = None
    for line in _lines_backwards(fd, end):
        if line.startswith(PREFIX):
            continue
        mono = _MONO.search(line)
        at = float(mono.group(1)) if mono else 0.0
        newest = at if newest is None else newest
        if at < newest - WINDOW_SECONDS:
            break
        if any(phase in line for phase in _PHASES):
            _note(part, line)
    return part


def _note(part: LastPart, line: bytes) -> None:
    _, record, event = decode_record(line)
    if event.phase in CLOSING:
        part.ended.add(event.id)
    elif event.phase == "intent" and not record.tx:
        part.written[event.id] = bytes(record.event)


def _lines_backwards(fd: int, end: int) -> Iterator[bytes]:
    """Whole lines with their newlines, the last one first."""
    rest = b""
    while end > 0:
        start = max(0, end - _CHUNK)
        data = os.pread(fd, end - start, start) + rest
        first = data.find(b"\n") + 1 if start else 0
        lines = data[first:].splitlines(keepends=True) if first <= len(data) else []
        yield from reversed(lines)
        rest, end = data[:first], start
