r"""The bytes of one record: a line that is written once and never serialised again.

    {"segment":S,"seq":N,"wall":W,"mono":M,"event":{...},"h":"16 hex digits"}\n

JSON in ASCII, at most 16 KiB, no name twice in an object, `h` last. The leaf of a record is SHA-256(0x00
|| every byte before `,"h"`), as RFC 6962 hashes leaves; `h` is its first 8 bytes, so that a reader sees
which line was changed, not only that its frame was. A record that repeats a row of the outbox starts with
`"tx":"<event id>/<phase>"`, which is how the sequencer finds those without parsing the others; one that
recovery added carries `"late":true`. ASCII means that CR, LF, ANSI escapes and U+2028 in a caller's names
stay inside their JSON string.

An event that does not fit is shortened, never refused: strings are cut to a prefix and
`...[N chars, sha256 XXXX]`, lists and objects to their first members, and the event's `cut` names each
path, so that no caller's own text can pass for a cut one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from kms.audit.control import UNREADABLE
from kms.audit.event import Actor, Event
from kms.errors import integrity

MAX_LINE = 16 * 1024
MAX_EVENT = MAX_LINE - 512  # the rest holds segment, seq, times and h
TX_PREFIX = b'{"tx":"'

_H_LENGTH = len(b',"h":"0123456789abcdef"}')
_MAX_DEPTH = 6
_LIMITS = ((1024, 64), (256, 32), (64, 16), (24, 4))  # longest string, most members: tried in turn
_MAX_CUTS = 32
_UNSAFE = re.compile("[\x7f-\U0010ffff]")

_sha256 = hashlib.sha256
_encode = msgspec.json.Encoder().encode


class RecordLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A decoded line. `event` is kept as the bytes that were hashed."""

    segment: str
    seq: int
    wall: float
    mono: float
    event: msgspec.Raw
    h: str
    tx: str = ""
    late: bool = False


_decode_line = msgspec.json.Decoder(RecordLine).decode
_decode_event = msgspec.json.Decoder(Event).decode


def encode_event(event: Event) -> bytes:
    """The event as ASCII JSON of at most MAX_EVENT bytes. Does not fail on any value."""
    try:
        data = _encode(event)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _shrink(event)
    if not data.isascii() or b"\x7f" in data:
        data = _escape(data)
    return data if len(data) <= MAX_EVENT else _shrink(event)


def encode_record(
    segment: str, seq: int, wall: float, mono: float, event: bytes, *, tx: str = "", late: bool = False
) -> tuple[bytes, bytes]:
    """The leaf and the whole line, newline included."""
    body = _body(segment.encode(), seq, wall, mono, event, tx.encode(), late=late)
    leaf = _sha256(b"\x00" + body).digest()
    return leaf, b'%b,"h":"%b"}\n' % (body, leaf[:8].hex().encode())


def decode_record(line: bytes) -> tuple[bytes, RecordLine, Event]:
    """Leaf and content of one line (with its newline), after checking every byte of it.

    Raises:
        KmsError(INTEGRITY): too long, not ASCII, not exactly as this module writes it, or `h` is wrong.
    """
    if len(line) > MAX_LINE or line[-1:] != b"\n" or not line.isascii():
        raise integrity("not a whole ASCII line of at most 16 KiB")
    body = line[: -_H_LENGTH - 1]
    leaf = _sha256(b"\x00" + body).digest()
    if line[-_H_LENGTH - 1 :] != b',"h":"%b"}\n' % leaf[:8].hex().encode():
        raise integrity("its bytes do not give its h")
    try:
        record = _decode_line(line)
        event = _decode_event(record.event)
    except UNREADABLE as error:
        raise integrity(f"not a record: {error}") from None
    raw = bytes(record.event)
    again = _body(
        record.segment.encode(),
        record.seq,
        record.wall,
        record.mono,
        raw,
        record.tx.encode(),
        late=record.late,
    )
    if again != body or (record.tx and record.tx != event.key):
        raise integrity("not written as records are written")
    if _encode(event) != raw:
        _refuse_repeated_names(raw)
    return leaf, record, event


def _body(
    segment: bytes, seq: int, wall: float, mono: float, event: bytes, tx: bytes, *, late: bool
) -> bytes:
    start = b'"segment":"%b","seq":%d,"wall":%.6f,"mono":%.6f' % (segment, seq, wall, mono)
    mark = b',"late":true' if late else b""
    if tx:
        return b'{"tx":"%b",%b%b,"event":%b' % (tx, start, mark, event)
    return b'{%b%b,"event":%b' % (start, mark, event)


def _refuse_repeated_names(raw: bytes) -> None:
    def once(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise integrity("a name stands twice in one object")

    try:
        json.loads(raw, object_pairs_hook=once)
    except RecursionError:
        raise integrity("nested too deeply") from None


def _escape(data: bytes) -> bytes:
    r"""Replace what is not printable ASCII by \uXXXX. In JSON text it only occurs inside strings."""

    def escape(match: re.Match[str]) -> str:
        units = match.group().encode("utf-16-be")
        return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))

    return _UNSAFE.sub(escape, data.decode()).encode("ascii")


def _shrink(event: Event) -> bytes:
    for longest, members in _LIMITS:
        cutter = _Cutter(longest, members)
        data = _escape(_encode(cutter.event(event)))
        if len(data) <= MAX_EVENT:
            return data
    cutter = _Cutter(*_LIMITS[-1])
    bare = cutter.event(msgspec.structs.replace(event, subject={}, fields={}))
    return _escape(_encode(msgspec.structs.replace(bare, cut=("subject", "fields"))))


class _Cutter:
    """Shortens values to fixed bounds and notes where."""

    def __init__(self, longest: int, members: int) -> None:
        self._longest = longest
        self._members = members
        self._cuts: list[str] = []

    def event(self, event: Event) -> Event:
        who = event.principal
        short = Event(
            id=self.text(event.id, "id"),
            phase=event.phase,
            operation=self.text(event.operation, "operation"),
            resource=self.text(event.resource, "resource"),
            door=self.text(event.door, "door"),
            peer=self.text(event.peer, "peer"),
            principal=Actor(
                accessor=self.text(who.accessor, "principal.accessor"),
                display_name=self.text(who.display_name, "principal.display_name"),
                entity_id=self.text(who.entity_id, "principal.entity_id"),
                policies=tuple(self.value(list(who.policies), "principal.policies", 0)),
            ),
            rule=self.text(event.rule, "rule"),
            outcome=self.text(event.outcome, "outcome"),
            items=event.items,
            subject=self.value(event.subject, "subject", 0),
            fields=self.value(event.fields, "fields", 0),
            generation=event.generation,
            at=event.at,
            namespace=event.namespace,
        )
        return msgspec.structs.replace(short, cut=tuple(self._cuts))

    def text(self, value: str, path: str) -> str:
        clean = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if clean != value:
            self._note(path)  # a lone surrogate has no UTF-8 form; it becomes U+FFFD
        if len(clean) <= self._longest:
            return clean
        self._note(path)
        digest = _sha256(clean.encode()).hexdigest()[:16]
        return f"{clean[: self._longest]}...[{len(clean)} chars, sha256 {digest}]"

    def value(self, value: Any, path: str, depth: int) -> Any:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**63 else self.text(f"{value:#x}", path)
        if isinstance(value, str):
            return self.text(value, path)
        if depth < _MAX_DEPTH and isinstance(value, Mapping):
            return self._object(value, path, depth)
        if depth < _MAX_DEPTH and isinstance(value, list | tuple):
            if len(value) > self._members:
                self._note(path)
            return [self.value(v, f"{path}.{i}", depth + 1) for i, v in enumerate(value[: self._members])]
        self._note(path)
        return f"[{type(value).__name__}]"

    def _object(self, value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        if len(value) > self._members:
            self._note(path)
        short: dict[str, Any] = {}
        for name in list(value)[: self._members]:
            text = self.text(str(name), path)
            short.setdefault(text, self.value(value[name], f"{path}.{text}", depth + 1))
        return short

    def _note(self, path: str) -> None:
        if len(self._cuts) < _MAX_CUTS and path[:128] not in self._cuts:
            self._cuts.append(path[:128])
