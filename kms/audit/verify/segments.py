"""The segments: each byte of each file is covered by the leaves, or named as newer than the checkpoint."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from kms.audit.control import MAX_CONTROL_LINE, PREFIX, Frame, Recovered, decode_control
from kms.audit.layout import Layout
from kms.audit.merkle import CompactRange
from kms.audit.position import Position
from kms.audit.receipt import Receipt
from kms.audit.record import decode_record
from kms.audit.tail import follow
from kms.audit.verify.acts import Acts
from kms.audit.verify.leaves import LEAVES, SegmentView
from kms.audit.verify.report import BadError
from kms.errors import KmsError

LEFT_BEHIND_SECONDS = 120.0


class SegmentReader:
    """Reads one segment to its end.

    Args:
        view: what the log knows of it; None when it is newer than the checkpoint.
        beat_wall: wall time of the newest heartbeat under the checkpoint.
        receipts: seq -> receipt, for this segment; those found are taken out.
    """

    def __init__(
        self,
        layout: Layout,
        segment: str,
        view: SegmentView | None,
        acts: Acts,
        *,
        beat_wall: float,
        receipts: dict[int, Receipt],
    ) -> None:
        self._path = layout.segment(segment)
        self._name = f"segments/{segment}.jsonl"
        self._segment = segment
        self._view = view
        self._count = view.count if view is not None else 0
        self._acts = acts
        self._beat_wall = beat_wall
        self._receipts = receipts
        self._position = Position()
        self._pending = CompactRange()
        self._first_pending = 1
        self._closed = False
        self.torn: set[str] = set()  # named by lines that are not covered yet
        self.records = 0
        self.uncovered = 0

    def read(self) -> None:
        """Check everything. Raises BadError."""
        try:
            with self._path.open("rb") as file:
                number = self._read(file)
        except FileNotFoundError:
            opened = f"; it was opened in {LEAVES}:{self._view.line}" if self._view is not None else ""
            raise BadError(self._name, f"missing{opened}") from None
        if self._position.n < self._count:
            what = f"ends after control line {self._position.n - 1}; the log holds {self._count} of them"
            raise BadError(f"{self._name}:{number}", what)

    def _read(self, file: BinaryIO) -> int:
        number = 1
        while line := file.readline(MAX_CONTROL_LINE + 1):
            place = f"{self._name}:{number}"
            if self._closed:
                raise BadError(place, "something follows the last line")
            if not line.endswith(b"\n"):
                if self._position.n < self._count:
                    raise BadError(place, "not a whole line")
                break  # being written, or torn: the next recovery will say
            try:
                if line.startswith(PREFIX):
                    self._control(line[:-1], place, number)
                else:
                    self._record(line, place)
            except KmsError as error:
                raise BadError(place, error.detail) from None
            number += 1
        return number

    # -- records ------------------------------------------------------------------------------------

    def _record(self, line: bytes, place: str) -> None:
        leaf, record, event = decode_record(line)
        expected = self._position.seq + self._pending.size
        if record.segment != self._segment:
            raise BadError(place, f"a record of segment {record.segment}")
        if self._position.n == 0 or record.seq != expected:
            raise BadError(place, f"record {record.seq} where {expected} belongs")
        self._pending.push(leaf)
        covered = self._position.n < self._count
        if not covered:
            self._left_behind(record.wall, place)
        self._acts.add(record, event, place, covered=covered)
        receipt = self._receipts.pop(record.seq, None) if self._receipts else None
        if receipt is not None and receipt.leaf != leaf:
            raise BadError(place, f"record {record.seq} is not the one that the receipt is for")
        if covered:
            self.records += 1
        else:
            self.uncovered += 1

    def _left_behind(self, wall: float, place: str) -> None:
        if self._beat_wall - wall > LEFT_BEHIND_SECONDS:
            raise BadError(place, "a record that the log went on without")

    # -- control lines ------------------------------------------------------------------------------

    def _control(self, line: bytes, place: str, number: int) -> None:
        n = self._position.n
        if self._view is not None and n < self._count and self._view.hash(n) != hashlib.sha256(line).digest():
            raise BadError(place, f"not control line {n} as the log holds it")
        control = decode_control(line)
        position, self._closed = follow(self._segment, self._position, line, closed=self._closed)
        if isinstance(control, Frame):
            self._frame(control, number)
        elif self._pending.size:
            raise BadError(place, "records without a frame before this line")
        elif isinstance(control, Recovered) and n >= self._count:
            self.torn |= {torn.name for torn in control.torn}
        if n >= self._count:
            self._left_behind(control.wall, place)
        self._position = position
        self._first_pending = number + 1

    def _frame(self, frame: Frame, number: int) -> None:
        if frame.count != self._pending.size:
            raise BadError(
                f"{self._name}:{number}",
                f"frame {frame.n} closes off {frame.count} records, {self._pending.size} stand here",
            )
        if frame.root != self._pending.root().hex():
            last = frame.first + frame.count - 1
            lines = f"{self._first_pending}-{number - 1}" if frame.count > 1 else f"{number - 1}"
            raise BadError(
                f"{self._name}:{lines}",
                f"one of the records {frame.first} to {last} was changed and hashed again: they do not give the root of frame {frame.n}",
            )
        self._pending = CompactRange()
