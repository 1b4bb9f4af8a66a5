"""Reading a segment from outside, from where the log left it: control lines without touching the records."""

from __future__ import annotations

import os

import msgspec

from kms.audit.control import (
    PREFIX,
    Closed,
    Frame,
    Opened,
    Recovered,
    SegmentControl,
    decode_control,
    line_hash,
)
from kms.audit.layout import Layout
from kms.audit.position import Position
from kms.audit.record import TX_PREFIX
from kms.errors import integrity

MAX_READ = 32 * 1024 * 1024  # a frame holds at most 1,000 records of 16 KiB


class Taken(msgspec.Struct, frozen=True):
    """What one look at a segment gave.

    Args:
        lines: whole control lines, without newline, in order.
        position: where the next look starts.
        outbox: keys of the outbox events among the records before the last of the lines.
        closed: the last line of the segment is among them.
    """

    lines: list[bytes]
    position: Position
    outbox: list[str]
    closed: bool


def take(layout: Layout, segment: str, position: Position) -> Taken:
    """Read the control lines that follow `position`, and sync the bytes that they stand for.

    Raises:
        KmsError(INTEGRITY): they are not the continuation of what was taken before.
        OSError: the file is missing or cannot be read.
    """
    fd = os.open(layout.segment(segment), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size < position.offset:
            raise integrity(f"segment {segment} is shorter than what the log holds of it")
        data = os.pread(fd, MAX_READ, position.offset)
        taken = _parse(segment, position, data)
        if taken.lines:
            # The writer frames first and syncs afterwards; the log must not know of bytes that a power cut
            # can still take away.
            os.fdatasync(fd)
        return taken
    finally:
        os.close(fd)


def _parse(segment: str, position: Position, data: bytes) -> Taken:
    lines: list[bytes] = []
    done = 0
    closed = False
    while (at := _find_line(data, PREFIX, done)) >= 0:
        end = data.find(b"\n", at)
        if end < 0:
            break
        position, closed = follow(segment, position, data[at:end], closed=closed)
        lines.append(data[at:end])
        done = end + 1
    position = msgspec.structs.replace(position, offset=position.offset + done)
    return Taken(lines, position, _outbox_keys(data[:done]), closed)


def _find_line(data: bytes, prefix: bytes, start: int) -> int:
    """Offset of the first line at or after the line start `start` that begins with `prefix`, or -1."""
    if data.startswith(prefix, start):
        return start
    found = data.find(b"\n" + prefix, start)
    return found + 1 if found >= 0 else -1


def follow(segment: str, position: Position, line: bytes, *, closed: bool) -> tuple[Position, bool]:
    """The position after one more control line (its offset unchanged), and whether it closes the segment.

    Raises:
        KmsError(INTEGRITY): the line does not continue the chain.
    """
    control = decode_control(line)
    if (
        not isinstance(control, SegmentControl)
        or control.segment != segment
        or control.n != position.n
        or closed
    ):
        raise integrity(
            f"segment {segment} has a control line that does not belong after number {position.n - 1}"
        )
    if isinstance(control, Opened) != (position.n == 0):
        raise integrity(f"segment {segment} does not begin with its opening line")
    if not isinstance(control, Opened) and control.prev != position.prev:
        raise integrity(f"control line {control.n} of segment {segment} does not follow the one before")
    seq = position.seq
    if isinstance(control, Frame):
        if control.first != seq or control.count < 1:
            raise integrity(f"frame {control.n} of segment {segment} does not begin at record {seq}")
        seq += control.count
    elif isinstance(control, Closed) and control.records != seq:
        raise integrity(f"segment {segment} closes after {control.records} records, {seq} are framed")
    elif isinstance(control, Recovered) and control.framed < 0:
        raise integrity(f"recovery of segment {segment} counts below zero")
    following = Position(position.offset, position.n + 1, seq, line_hash(line))
    return following, isinstance(control, Closed)


def _outbox_keys(data: bytes) -> list[str]:
    keys: list[str] = []
    start = 0
    while (at := _find_line(data, TX_PREFIX, start)) >= 0:
        key = at + len(TX_PREFIX)
        keys.append(data[key : data.index(b'"', key)].decode("ascii", "replace"))
        start = data.index(b"\n", key) + 1
    return keys
