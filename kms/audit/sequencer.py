"""The sequencer: gathers the frames of all segments into one tree and signs its head. Run by the jobs process.

One step, at most a second apart while anything happens:

(1) take the control lines that each live segment has gained; never single records;
(2) add a heartbeat when a minute has passed;
(3) append the new leaves to log/leaves.jsonl, synced;
(4) store the new head in the database by compare-and-swap, in the commit that drops the outbox rows it covers;
(5) sign it, add it to the history, and rename it into place.

Killed anywhere, the next start carries on from (4), the only point of decision: leaves beyond the stored head are
cut off and made again, a stored head that was not signed yet is signed. A head smaller than, or inconsistent with,
one that was signed is refused. Two sequencers cannot both succeed: the files are locked, the head is fenced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from kms.audit.control import Control, Heartbeat, Log, Start, Stop, Succession, Torn, Void, encode_control
from kms.audit.layout import Layout
from kms.audit.ledger import Ledger
from kms.audit.memory import check_memories
from kms.audit.merkle import CompactRange, leaf_hash
from kms.audit.note import Checkpoint, LogKey, LogSigner, check_origin, sign_checkpoint
from kms.audit.position import Position
from kms.audit.reserve import RESERVE_BYTES, Reserve
from kms.audit.signers import Signers
from kms.audit.store import LOG, LOG_KEY, OUTBOX, SEGMENTS, LogRow, SignerRow
from kms.audit.tail import Taken, take
from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, integrity
from kms.tables import Row, Store, Transaction

STEP_SECONDS = 1.0
HEARTBEAT_SECONDS = 60.0
LATE_SECONDS = 30.0  # a beat later than this says by how much


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the database as heartbeats carry it."""

    generation: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did.

    Args:
        size: leaves in the stored tree.
        signed: leaves under the newest signed checkpoint.
        broken: segment -> why its lines cannot be taken; alarm. The others go on.
        unsigned_because: why signing failed, or "".
    """

    size: int
    signed: int
    broken: Mapping[str, str]
    unsigned_because: str = ""


@dataclass(slots=True)
class _Gathered:
    """Everything that one step will commit."""

    lines: list[bytes] = field(default_factory=list)
    positions: dict[str, Position] = field(default_factory=dict)
    outbox: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)
    wall: float = 0.0
    beat: float | None = None
    stopped: bool = False
    signers: tuple[SignerRow, ...] = ()

    def add(self, control: Control) -> None:
        self.lines.append(encode_control(control))


class Sequencer:
    """At most one per audit folder. `start`, then `step` once a second (or `run`), then `stop`."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        signer: LogSigner,
        clock: Clock,
        *,
        origin: str,
        snapshot: Callable[[], Snapshot] = Snapshot,
        reserve_bytes: int = RESERVE_BYTES,
        signers: Callable[[], Sequence[LogSigner]] | None = None,
    ) -> None:
        """`signer` is the key of the log's first line; `signers` all that sign it now, `signer` alone if not given."""
        self._layout = Layout(folder)
        self._store = store
        self._clock = clock
        self._key = LogKey(check_origin(origin), signer.public)
        self._signers = Signers(self._key, signers or (lambda: (signer,)))
        self._snapshot = snapshot
        self._reserve = Reserve(self._layout, reserve_bytes)
        self._ledger: Ledger | None = None
        self._row: Row[LogRow] | None = None
        self._tree = CompactRange()
        self._signed = 0
        self._fence = 0
        self._beat = 0.0
        self._first: list[Control] = []
        self._unsure: tuple[int, _Gathered] | None = None

    def start(self) -> None:
        """Take over the log.

        Raises:
            KmsError(CONFLICT): another sequencer runs. KmsError(INTEGRITY): database, folder and signed
                checkpoints contradict each other; the message says which is behind.
        """
        ledger = Ledger.open(self._layout)
        try:
            self._take_over(ledger)
        except KmsError:
            ledger.close()
            raise
        self._ledger = ledger

    def step(self) -> Step:
        """Gather, store, sign. Cheap when nothing happened.

        Raises:
            KmsError(CONFLICT): another sequencer has taken over: end this process.
            KmsError(STORAGE_UNAVAILABLE, AUDIT_UNAVAILABLE): call again later; nothing is lost.
        """
        return self._step(_Gathered())

    def stop(self) -> None:
        """Take what is left, say that this is a clean end, sign, and give the files back."""
        try:
            gathered = _Gathered(wall=self._clock.now(), stopped=True)
            self._step(gathered, Stop(fence=self._fence, wall=gathered.wall))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give the files back without a word, as a dying process would."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def run(self, ending: threading.Event, after: Callable[[Step], None] = lambda _: None) -> None:
        """Step once a second until `ending` is set. Failures that pass are retried; CONFLICT is raised."""
        while not ending.wait(STEP_SECONDS):
            try:
                after(self.step())
            except KmsError as error:
                if error.kind not in (ErrorKind.STORAGE_UNAVAILABLE, ErrorKind.AUDIT_UNAVAILABLE):
                    raise

    # -- start --------------------------------------------------------------------------------------

    def _take_over(self, ledger: Ledger) -> None:
        found = self._store.reader().get(LOG, LOG_KEY)
        keys = self._signers.keys(found.value.signers if found else ())
        memory = check_memories(ledger, found.value if found else None, keys)
        self._signed = memory.signed
        torn = ledger.save_torn(memory.leaves, memory.notes, memory.named)
        with self._store.transaction() as tx:
            row = tx.get(LOG, LOG_KEY)
            if row is None:
                fresh = LogRow(origin=self._key.name, fence=1)
                self._row = tx.insert(LOG, LOG_KEY, fresh)
            else:
                fenced = msgspec.structs.replace(row.value, fence=row.value.fence + 1)
                self._row = tx.replace(LOG, row, fenced)
        state = self._row.value
        self._fence = state.fence
        self._tree = CompactRange(state.size, state.peaks)
        ledger.write_keys(keys[:1])
        self._first = self._first_leaves(state, torn)

    def _first_leaves(self, state: LogRow, torn: tuple[Torn, ...]) -> list[Control]:
        now, mono = self._clock.now(), self._clock.monotonic()
        self._beat = mono - HEARTBEAT_SECONDS
        start = Start(fence=state.fence, last=state.wall, clean=state.stopped, torn=torn, wall=now, mono=mono)
        if state.size:
            return [start]
        first: list[Control] = [Log(origin=self._key.name, key=self._key.line(), wall=now)]
        if state.before is not None:
            first.append(Succession(wall=now, **msgspec.structs.asdict(state.before)))
        return [*first, start]

    # -- a step -------------------------------------------------------------------------------------

    def _step(self, gathered: _Gathered, last: Control | None = None) -> Step:
        if self._ledger is None:
            raise KmsError(ErrorKind.INTERNAL, "the sequencer was not started")
        row = self._current_row()
        for control in self._first:
            gathered.add(control)
            gathered.wall = self._clock.now()
        broken = self._gather(row.value, gathered)
        gathered.signers = self._changed_signers(row.value, gathered)
        self._heartbeat(gathered)
        if last is not None:
            gathered.add(last)
        if gathered.lines:
            self._commit(self._ledger, row, gathered)
        reason = self._sign(self._ledger)
        return Step(self._tree.size, self._signed, broken, reason)

    def _changed_signers(self, state: LogRow, gathered: _Gathered) -> tuple[SignerRow, ...]:
        """Lines for keys that sign from now on, or no more."""
        rows, leaves = self._signers.changes(
            state.signers, state.size + len(gathered.lines), self._clock.now()
        )
        for control in leaves:
            gathered.add(control)
        return rows

    def _current_row(self) -> Row[LogRow]:
        """The stored head. After a failed commit the database says whether it happened."""
        if self._row is None:
            row = self._store.reader().get(LOG, LOG_KEY)
            if row is None or row.value.fence != self._fence:
                raise KmsError(ErrorKind.CONFLICT, "another process sequences this audit log now")
            self._row = row
            self._tree = CompactRange(row.value.size, row.value.peaks)
            if self._unsure is not None and row.revision != self._unsure[0]:
                self._committed(self._unsure[1])
        return self._row

    def _gather(self, state: LogRow, gathered: _Gathered) -> dict[str, str]:
        broken: dict[str, str] = {}
        gathered.positions = dict(state.positions)
        reader = self._store.reader()
        for row in reader.find(SEGMENTS, {"state": "live"}):
            try:
                taken = take(self._layout, row.key, state.positions.get(row.key, Position()))
            except OSError as error:
                broken[row.key] = f"its file cannot be read: {error.strerror}"
            except KmsError as error:
                broken[row.key] = error.detail
            else:
                _add_taken(gathered, row.key, taken)
        for row in reader.find(SEGMENTS, {"state": "void"}):
            torn = tuple(Torn(*parts) for parts in row.value.torn)
            gathered.add(Void(segment=row.key, torn=torn, wall=self._clock.now()))
            gathered.voided.append(row.key)
        return broken

    def _heartbeat(self, gathered: _Gathered) -> None:
        mono = self._clock.monotonic()
        due = self._beat + HEARTBEAT_SECONDS
        if mono < due:
            return
        self._reserve.hold()
        snapshot = self._snapshot()
        gathered.wall = self._clock.now()
        gathered.add(
            Heartbeat(
                fence=self._fence,
                live={segment: position.n - 1 for segment, position in gathered.positions.items()},
                generation=snapshot.generation,
                digests=dict(snapshot.digests),
                late=mono - due if mono - due > LATE_SECONDS else 0.0,
                wall=gathered.wall,
                mono=mono,
            )
        )
        gathered.beat = mono

    def _commit(self, ledger: Ledger, row: Row[LogRow], gathered: _Gathered) -> None:
        tree = self._tree.copy()
        for line in gathered.lines:
            tree.push(leaf_hash(line))
        length = ledger.append(row.value.leaves_bytes, gathered.lines)
        head = LogRow(
            origin=self._key.name,
            fence=self._fence,
            size=tree.size,
            peaks=tuple(tree.peaks),
            leaves_bytes=length,
            positions=gathered.positions,
            wall=gathered.wall or row.value.wall,
            stopped=gathered.stopped,
            before=row.value.before,
            signers=gathered.signers,
        )
        self._row, self._unsure = None, (row.revision, gathered)  # until the commit returns
        with self._store.transaction() as tx:
            stored = tx.replace(LOG, row, head)
            _drop_covered(tx, gathered)
        self._row, self._tree = stored, tree
        self._committed(gathered)

    def _committed(self, gathered: _Gathered) -> None:
        self._first = []
        self._unsure = None
        if gathered.beat is not None:
            self._beat = gathered.beat

    def _sign(self, ledger: Ledger) -> str:
        if self._signed == self._tree.size:
            return ""
        rows = self._row.value.signers if self._row is not None else ()
        published = ledger.current(self._signers.keys(rows))
        if published is not None and published.size > self._tree.size:
            raise integrity(
                "a larger checkpoint than ours has been published; this log must not be continued"
            )
        checkpoint = Checkpoint(self._key.name, self._tree.size, self._tree.root())
        reason = "no key may sign"
        for signer in self._signers.counting(rows, self._signed, checkpoint.size):
            try:
                note = sign_checkpoint(checkpoint, signer)
            except KmsError as error:
                # The head is stored and its leaves are durable; it is signed when an HSM answers again.
                reason = error.detail
                continue
            ledger.publish(note, checkpoint.size)
            self._signed = checkpoint.size
            return ""
        return reason


def _add_taken(gathered: _Gathered, segment: str, taken: Taken) -> None:
    gathered.lines += taken.lines
    gathered.outbox += taken.outbox
    if taken.closed:
        gathered.closed.append(segment)
        gathered.positions.pop(segment, None)
    elif taken.lines:
        gathered.positions[segment] = taken.position


def _drop_covered(tx: Transaction, gathered: _Gathered) -> None:
    tx.delete_all(OUTBOX, gathered.outbox)
    for segments, state in ((gathered.closed, "closed"), (gathered.voided, "voided")):
        for key in segments:
            segment = tx.get(SEGMENTS, key)
            if segment is not None:
                tx.replace(SEGMENTS, segment, msgspec.structs.replace(segment.value, state=state))
