"""Reading a dead writer's segment to the end: what is whole, what is torn, what was never framed."""

from __future__ import annotations

import os

import msgspec

from kms.audit.control import MAX_CONTROL_LINE, PREFIX, Frame, Recovered, decode_control
from kms.audit.merkle import CompactRange
from kms.audit.position import Position
from kms.audit.record import decode_record
from kms.audit.tail import follow
from kms.errors import KmsError, integrity


class Salvage(msgspec.Struct, kw_only=True):
    """The state of a segment at its last whole, valid line.

    Args:
        position: after its last control line.
        end: byte offset after the last valid line; everything further is torn.
        pending: the tree over the records that no frame covers.
        outbox: keys of outbox events whose record is in the part that was read.
        named: files in torn/ that its lines already name.
    """

    segment: str
    position: Position
    end: int
    pending: CompactRange
    outbox: set[str] = set()
    named: set[str] = set()
    closed: bool = False


def salvage(segment: str, fd: int, position: Position) -> Salvage:
    """Read an open segment from where the log left it."""
    found = Salvage(segment=segment, position=position, end=position.offset, pending=CompactRange())
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(position.offset)
        while line := file.readline(MAX_CONTROL_LINE + 1):
            try:
                _accept(found, line)
            except KmsError:
                # After a power cut pages may be missing anywhere behind the last sync, and what the log has
                # taken was synced. From the first line that is not right, everything is kept aside.
                break
            found.end += len(line)
    return found


def _accept(found: Salvage, line: bytes) -> None:
    if not line.endswith(b"\n"):
        raise integrity("not a whole line")
    if line.startswith(PREFIX):
        _accept_control(found, line[:-1])
        return
    leaf, record, _ = decode_record(line)
    if record.segment != found.segment or record.seq != found.position.seq + found.pending.size:
        raise integrity("a record out of its place")
    found.pending.push(leaf)
    if record.tx:
        found.outbox.add(record.tx)


def _accept_control(found: Salvage, line: bytes) -> None:
    control = decode_control(line)
    position, closed = follow(found.segment, found.position, line, closed=found.closed)
    if isinstance(control, Frame):
        if (control.count, control.root) != (found.pending.size, found.pending.root().hex()):
            raise integrity("a frame that does not fit its records")
        found.pending = CompactRange()
    elif found.pending.size:
        raise integrity("records without a frame before a control line")
    elif isinstance(control, Recovered):
        found.named |= {torn.name for torn in control.torn}
    found.position, found.closed = position, closed
