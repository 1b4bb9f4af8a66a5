"""Recovery: what a process left behind when it died. Run at start, and by the jobs process every few seconds.

For each segment whose writer is gone (its lock is free) and which has no last line:

(1) bytes after the last whole, valid line go to torn/;
(2) whole records that no frame covers are framed, marked `recovery`;
(3) events of the outbox that are not in the segment are appended, marked `late`, and framed;
(4) intents that were only written, and not ended, get their row (kms.audit.unfinished);
(5) a `recovered` line names what was found, and a `closed` line ends the segment.

Every step can be killed and repeated. Intents without an end are returned: only the caller can look into the HSM
or the foreign system, and ends each with an `outcome` or `failed` event of the same id.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kms.audit.control import Torn
from kms.audit.event import Event
from kms.audit.layout import Layout, sync_folder
from kms.audit.ledger import describe_torn, keep_torn
from kms.audit.outbox import keep_intents
from kms.audit.position import Position
from kms.audit.salvage import Salvage, salvage
from kms.audit.segment import Segment, unavailable
from kms.audit.store import INTENTS, LOG, LOG_KEY, OUTBOX, SEGMENTS, OutboxRow, SegmentRow
from kms.audit.unfinished import Announced, LastPart, read_last_part
from kms.clock import Clock
from kms.errors import integrity
from kms.ids import new_id
from kms.tables import Row, Store

_STRAY_SECONDS = 60.0
_decode_event = msgspec.json.Decoder(Event).decode


class Ended(msgspec.Struct, frozen=True):
    """What was done for one dead segment. `void`: it had not begun."""

    segment: str
    torn: tuple[Torn, ...] = ()
    framed: int = 0
    appended: int = 0
    void: bool = False


class Recovery(msgspec.Struct, frozen=True):
    """What one pass found. `intents` are to be ended by the caller; each is the intent's own event."""

    ended: list[Ended]
    intents: list[Event]


def recover(folder: Path, store: Store, clock: Clock, *, origin: str) -> Recovery:
    """End the segments of dead writers and find the intents that they left open.

    Live writers are not disturbed. Needs neither the HSM nor an unsealed store.

    Raises:
        KmsError(INTEGRITY): the folder misses a segment that the log holds, or has one with records that the
            database never announced: one of the two was put back. KmsError(AUDIT_UNAVAILABLE): I/O.
    """
    layout = Layout(folder)
    with _alone(layout):
        _refuse_strangers(layout, store, clock)
        _rehome(layout, store, clock, origin)
        head = store.reader().get(LOG, LOG_KEY)
        positions = head.value.positions if head else {}
        ended: list[Ended] = []
        for row in store.reader().find(SEGMENTS, {"state": "live"}):
            one = _end(layout, store, clock, row, positions.get(row.key, Position()))
            if one is not None:
                ended.append(one)
        return Recovery(ended, _orphans(layout, store))


def _end(
    layout: Layout, store: Store, clock: Clock, row: Row[SegmentRow], position: Position
) -> Ended | None:
    """End one segment, or None: its writer lives, or it has its last line."""
    with _adopted(layout, row.key) as fd:
        if fd is None:
            return None
        if fd < 0:
            if position.n:
                raise integrity(f"the audit folder is behind the database: segment {row.key} is missing")
            return _void(layout, store, row)
        found = salvage(row.key, fd, position)
        if found.closed:
            return None
        keep_torn(layout, row.key, fd, found.end)
        if found.position.n == 0:
            return _void(layout, store, row)
        return _finish(layout, store, clock, fd, found)


def _finish(layout: Layout, store: Store, clock: Clock, fd: int, found: Salvage) -> Ended:
    segment = Segment(layout.segment(found.segment), os.dup(fd), found.end)
    segment.seq = found.position.seq + found.pending.size
    segment.n = found.position.n
    segment.prev = found.position.prev
    segment.tree = found.pending
    framed = found.pending.size
    segment.frame(clock.now(), by="recovery")
    last = read_last_part(fd, found.end)
    committed = [row for row in store.reader().scan(OUTBOX) if row.value.segment == found.segment]
    missing = _missing(committed, found)
    appended = 0
    for row in missing:
        appended += _intent_again(segment, row, last, clock)
        segment.append(row.value.event, clock.now(), clock.monotonic(), tx=row.key, late=True)
    segment.frame(clock.now(), by="recovery")
    _keep_open(store, found.segment, last, clock)
    torn = _unnamed(layout, found.segment, found.named)
    segment.recovered(torn, framed, appended + len(missing), clock.now())
    segment.close(clock.now(), clean=False)
    return Ended(found.segment, torn, framed, appended + len(missing))


def _missing(committed: Iterable[Row[OutboxRow]], found: Salvage) -> list[Row[OutboxRow]]:
    return sorted(
        (row for row in committed if row.key not in found.outbox), key=lambda row: (row.value.at, row.key)
    )


def _intent_again(segment: Segment, row: Row[OutboxRow], last: LastPart, clock: Clock) -> int:
    """Append the written intent of a committed outcome, if a power cut took its line; how many were."""
    event_id = row.key.rpartition("/")[0]
    if not row.value.intent or event_id in last.written:
        return 0
    segment.append(row.value.intent, clock.now(), clock.monotonic(), late=True)
    return 1


def _keep_open(store: Store, segment: str, last: LastPart, clock: Clock) -> None:
    left = [
        (event_id, Announced(event, 0.0))
        for event_id, event in last.written.items()
        if event_id not in last.ended
    ]
    if left:
        with store.transaction() as tx:
            keep_intents(tx, segment, left, clock.now())


def _void(layout: Layout, store: Store, row: Row[SegmentRow]) -> Ended:
    """The segment never got its first line; nothing was recorded in it."""
    layout.segment(row.key).unlink(missing_ok=True)
    torn = _unnamed(layout, row.key, set())
    parts = tuple((one.name, one.bytes, one.sha256) for one in torn)
    with store.transaction() as tx:
        tx.replace(SEGMENTS, row, msgspec.structs.replace(row.value, state="void", torn=parts))
    return Ended(row.key, torn, void=True)


def _unnamed(layout: Layout, segment: str, named: AbstractSet[str]) -> tuple[Torn, ...]:
    """Files in torn/ from this segment that no control line names yet."""
    paths = sorted(path for path in layout.torn.glob(f"{segment}-*.bin") if path.name not in named)
    return tuple(describe_torn(path, path.read_bytes()) for path in paths)


def _rehome(layout: Layout, store: Store, clock: Clock, origin: str) -> None:
    """Give outbox events of segments that have ended a new one, which is then ended like any other.

    They are rare: a commit that finished while its process was already closing the segment.
    """
    reader = store.reader()
    homeless: list[Row[OutboxRow]] = []
    states: dict[str, str] = {}
    for row in reader.scan(OUTBOX):
        home = row.value.segment
        if home not in states:
            found = reader.get(SEGMENTS, home)
            states[home] = found.value.state if found else "unknown"
        if states[home] != "live":
            homeless.append(row)
    if not homeless:
        return
    segment = Segment.create(layout, new_id())
    try:
        with store.transaction() as tx:
            tx.insert(SEGMENTS, segment.id, SegmentRow(state="live", opened=clock.now()))
            for row in homeless:
                tx.replace(OUTBOX, row, msgspec.structs.replace(row.value, segment=segment.id))
        segment.begin(origin, clock.now(), clock.monotonic())
    finally:
        segment.abandon()


def _orphans(layout: Layout, store: Store) -> list[Event]:
    """Intents whose process is gone."""
    alive: dict[str, bool] = {}
    orphans: list[Event] = []
    for row in store.reader().scan(INTENTS):
        segment = row.value.segment
        if segment not in alive:
            with _adopted(layout, segment) as fd:
                alive[segment] = fd is None
        if not alive[segment]:
            orphans.append(_decode_event(row.value.event))
    return orphans


def _refuse_strangers(layout: Layout, store: Store, clock: Clock) -> None:
    known = frozenset(store.reader().keys(SEGMENTS))
    for path in layout.segments.glob("*.jsonl"):
        if path.stem in known:
            continue
        # A row is always committed before the first byte of its file; a process that died between the two
        # leaves an empty file, one that lives is about to commit.
        status = path.stat()
        if status.st_size:
            if path.stem not in frozenset(store.reader().keys(SEGMENTS, path.stem)):
                raise integrity(
                    f"the database is behind the audit folder: it does not know segment {path.stem}"
                )
        elif clock.now() - status.st_mtime > _STRAY_SECONDS:
            path.unlink()


@contextmanager
def _adopted(layout: Layout, segment: str) -> Iterator[int | None]:
    """The locked file of a dead writer; None when the writer lives; -1 when there is no file."""
    try:
        fd = os.open(layout.segment(segment), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        yield -1
        return
    except OSError as error:
        raise unavailable(error) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield fd
    finally:
        os.close(fd)


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One recovery at a time per folder."""
    try:
        layout.make()
        fd = os.open(layout.torn, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise unavailable(error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
        sync_folder(layout.torn)
    finally:
        os.close(fd)
