r"""Control lines: what the log's tree is made of.

Each starts with `{"control":"<kind>"`, which no record does, so that the sequencer finds them by searching
bytes. Those of a segment (`opened`, `frame`, `recovered`, `closed`) are numbered from 0 and chained by the
SHA-256 of the one before; the sequencer copies them, byte for byte, into `log/leaves.jsonl`, between lines of
its own (`log`, `succession`, `signer`, `signer-ended`, `start`, `heartbeat`, `void`, `stop`). The tree's leaves are RFC 6962 leaf hashes
of these lines without their newline. Hashes are lower-case hex.
"""

from __future__ import annotations

import hashlib

import msgspec

from kms.errors import integrity

PREFIX = b'{"control":"'
# What msgspec raises for bytes that are not the JSON it was asked for: malformed, not UTF-8, nested too deeply.
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
MAX_CONTROL_LINE = 1024 * 1024  # a heartbeat lists the live segments


class Torn(msgspec.Struct, frozen=True):
    """Bytes that were no whole line, moved to torn/`name`."""

    name: str
    bytes: int
    sha256: str


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="opened"):
    """First line of a segment."""

    segment: str
    n: int
    origin: str
    format: int
    pid: int
    wall: float
    mono: float


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="frame"):
    """Closes off the records first .. first+count-1: `root` is the RFC 6962 root of their leaves.

    `by` is "worker", or "recovery" for records that their own process did not live to frame.
    """

    segment: str
    n: int
    first: int
    count: int
    root: str
    prev: str
    wall: float
    by: str


class Recovered(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="recovered"):
    """The writer of this segment ended without closing it. What was found and done.

    Args:
        torn: bytes after the last whole line, now in torn/.
        framed: whole records that no frame covered yet.
        appended: events that were committed in the database but had not reached the segment.
    """

    segment: str
    n: int
    torn: tuple[Torn, ...]
    framed: int
    appended: int
    prev: str
    wall: float


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="closed"):
    """Last line of a segment. `clean` is false when recovery wrote it."""

    segment: str
    n: int
    records: int
    prev: str
    wall: float
    clean: bool


class Log(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="log"):
    """First leaf of a log. `key` is the C2SP verifier key of its first signer."""

    origin: str
    key: str
    wall: float


class Succession(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="succession"):
    """Second leaf of a log that goes on for one whose key is lost. It vouches for everything of that one.

    Args:
        epoch: number of this log; the one before is epoch - 1.
        origin, key: of the log before, as in its `log` line.
        size, root: of its newest signed checkpoint; 0 and "" when none was ever signed.
        leaves: its leaves, signed or not.
        records: whole records behind that checkpoint, which nothing but this line vouches for.
        manifest: SHA-256 of epochs/<epoch - 1>.manifest, which names each file of it with its own.
        why: what happened.
        finding: what the verifier found wrong with the log before, or "".
    """

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
    wall: float


class SignerBegan(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="signer"):
    """A further key signs this log: a second HSM's.

    It counts for a checkpoint if an earlier one, signed by a key that counted, covers this line: so it is vouched for.
    """

    key: str
    wall: float


class SignerEnded(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="signer-ended"):
    """A key signs this log no more. It counts for no checkpoint that covers this line."""

    key: str
    why: str
    wall: float


class Start(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="start"):
    """A sequencer took over. Between `last` and `wall` nobody watched; `clean` says whether that was announced.

    `last` is the wall time of the last leaf that the previous sequencer made, 0 for the first one.
    """

    fence: int
    last: float
    clean: bool
    torn: tuple[Torn, ...]
    wall: float
    mono: float


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="heartbeat"):
    """Once a minute: which segments are live and how far each is taken; the state of the database.

    Args:
        live: segment -> number of its last control line in the tree.
        late: seconds by which this beat missed its minute, when the sequencer was held up; else 0.
        digests: security domain -> state digest (see the storage layer).
    """

    fence: int
    live: dict[str, int]
    generation: int
    digests: dict[str, str]
    late: float
    wall: float
    mono: float


class Void(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="void"):
    """A segment that was announced in the database but never got its first line."""

    segment: str
    torn: tuple[Torn, ...]
    wall: float


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag_field="control", tag="stop"):
    """The sequencer stops in good order."""

    fence: int
    wall: float


SegmentControl = Opened | Frame | Recovered | Closed
Control = (
    Opened
    | Frame
    | Recovered
    | Closed
    | Log
    | Succession
    | SignerBegan
    | SignerEnded
    | Start
    | Heartbeat
    | Void
    | Stop
)

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)


def encode_control(control: Control) -> bytes:
    """The line without its newline."""
    return _encode(control)


def decode_control(line: bytes) -> Control:
    """Parse one line (without its newline) that must be exactly what `encode_control` gives.

    Raises:
        KmsError(INTEGRITY): unknown kind, wrong types, repeated names, other spelling, too long.
    """
    if len(line) > MAX_CONTROL_LINE or not line.isascii():
        raise integrity("not an ASCII control line of at most 1 MiB")
    try:
        control = _decoder.decode(line)
    except UNREADABLE as error:
        raise integrity(f"not a control line: {error}") from None
    if _encode(control) != line:
        raise integrity("not written as control lines are written")
    return control


def line_hash(line: bytes) -> str:
    """What the next control line of a segment names as `prev`."""
    return hashlib.sha256(line).hexdigest()
