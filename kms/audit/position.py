"""How far a segment has been read: shared by the sequencer, recovery and the verifier."""

from __future__ import annotations

import msgspec


class Position(msgspec.Struct, frozen=True):
    """How far one live segment is in the log.

    Args:
        offset: byte after the last control line taken.
        n: number of the next control line.
        seq: number of the next record.
        prev: hash of the last control line taken.
    """

    offset: int = 0
    n: int = 0
    seq: int = 0
    prev: str = ""
