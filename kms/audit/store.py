"""Rows of the audit log in the database. Unsealed tables hold nothing secret and are read before unseal."""

from __future__ import annotations

import msgspec

from kms.audit.position import Position
from kms.tables import Table


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A segment was announced. Key: segment id. Committed before the first byte of the file.

    `state`: "live" until the log holds its last line ("closed"); "void" when recovery found that it never
    began, "voided" when the log says so; "past" when it had not ended and belongs to an earlier log.
    """

    state: str
    opened: float
    torn: tuple[tuple[str, int, str], ...] = ()


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event committed together with the state that it describes. Key: "<event id>/<phase>".

    Deleted in the commit that stores a checkpoint over its record. `intent` is the intent that it ends, where
    that was only written: a power cut can take the line, and then the log gets it from here.
    """

    segment: str
    event: bytes
    at: float
    intent: bytes = b""


class IntentRow(msgspec.Struct, frozen=True, kw_only=True):
    """An external act that was announced and not ended. Key: event id. Gone with its outcome's commit.

    An intent that was only written comes here when it stays open for long, or its process is gone.
    """

    segment: str
    event: bytes
    at: float


class Predecessor(msgspec.Struct, frozen=True, kw_only=True):
    """The log that this one goes on for: the fields of the `succession` line, but its time."""

    epoch: int
    origin: str
    key: str
    size: int
    root: str
    leaves: int
    records: int
    manifest: str
    why: str
    finding: str


class SignerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the log. `since` and `until` are the numbers of the leaves that say so, from 1; 0 where none does."""

    public: bytes
    since: int = 0
    until: int = 0


class LogRow(msgspec.Struct, frozen=True, kw_only=True):
    """The one log, as of its last stored checkpoint. Key: "log". Replaced by compare-and-swap.

    Args:
        fence: number of the sequencer that may write; each new one adds one.
        size, peaks: the tree as a compact range.
        leaves_bytes: length of log/leaves.jsonl at this size.
        positions: live segments.
        wall: time of the last leaf that the sequencer made itself.
        stopped: that leaf was `stop`.
        before: of a log that goes on for one whose key was lost.
        signers: all keys that sign it or did, the one of its first line first; empty where that is the only one.
    """

    origin: str
    fence: int
    size: int = 0
    peaks: tuple[bytes, ...] = ()
    leaves_bytes: int = 0
    positions: dict[str, Position] = {}
    wall: float = 0.0
    stopped: bool = False
    before: Predecessor | None = None
    signers: tuple[SignerRow, ...] = ()


SEGMENTS = Table("audit/segment/1", "audit_segments", SegmentRow, index=("state",), sealed=False)
OUTBOX = Table("audit/outbox/1", "audit_outbox", OutboxRow, sealed=False)
INTENTS = Table("audit/intent/1", "audit_intents", IntentRow, sealed=False)
LOG = Table("audit/log/1", "audit_log", LogRow, sealed=False)

LOG_KEY = "log"
