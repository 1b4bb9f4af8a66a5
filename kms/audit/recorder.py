"""The recorder: how one worker process writes to the audit log. Safe to use from several threads.

`write` ends in one write(2): no sync, no database. A thread of the recorder closes frames and syncs them every
100 ms, so a killed process loses nothing and a power cut at most one frame. `stage` and `publish` are for
changes of state: the event is a row in the commit that changes the state, and reaches the segment after it.
When the segment cannot take a record, KmsError(AUDIT_UNAVAILABLE) is raised, and the operation must not
happen, or its answer not leave.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from kms.audit.event import Event
from kms.audit.layout import Layout
from kms.audit.note import check_origin
from kms.audit.outbox import Staged, keep_intents, sort_out, stage, timed
from kms.audit.receipt import Receipt
from kms.audit.record import encode_event
from kms.audit.segment import Segment
from kms.audit.store import LOG, LOG_KEY, SEGMENTS, SegmentRow
from kms.audit.tally import WINDOW_SECONDS, RefusalLimiter, Tally
from kms.audit.unfinished import KEEP_AFTER_SECONDS, Announced
from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.ids import new_id, new_uuid
from kms.sensitive import ACCESS, Sensitive
from kms.tables import Store, Transaction

FRAME_RECORDS = 1000
FRAME_SECONDS = 0.1
DEGRADED_SECONDS = 10.0
REFUSE_SECONDS = 60.0
_LAG_CHECK_SECONDS = 1.0
_MAX_FRAMES_KEPT = 1000  # their age is what matters, and the oldest are kept
_OWED_AFTER_SECONDS = (
    5.0  # a commit and its publication are milliseconds apart; later, look what became of it
)


class Recorder:
    """One per worker process, opened after the fork. Use `open`."""

    def __init__(self, segment: Segment, store: Store, clock: Clock, origin: str) -> None:
        self._segment = segment
        self._store = store
        self._clock = clock
        self._origin = origin
        self._lock = threading.Lock()
        self._staged: dict[str, Staged] = {}
        self._announced: dict[str, Announced] = {}  # written intents that are open, by event id
        self._frames: list[tuple[int, float]] = []  # (n, monotonic) of frames not known to be sequenced
        self._failure = ""
        self._failures = 0
        self._hash_key: Callable[[], Sensitive] | None = None
        self._key: Sensitive | None = None
        self._refusals = RefusalLimiter()
        self._public = Tally()
        self._checked = self._window = clock.monotonic()
        self._ending = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="audit-frames", daemon=True)

    @classmethod
    def open(
        cls,
        folder: Path,
        store: Store,
        clock: Clock,
        *,
        origin: str,
        hash_key: Callable[[], Sensitive] | None = None,
    ) -> Self:
        """Start this process's segment and its thread.

        Args:
            folder: the audit folder; missing folders are made.
            store: the database of this process; need not be unsealed.
            clock: wall time stands in the records, monotonic time measures.
            origin: the log's name, the same in every process of the instance: printable ASCII without space,
                '+' or ';', at most 128 characters (INVALID otherwise).
            hash_key: gives the key for `hmac`; asked when first needed, may raise SEALED before.

        Raises:
            KmsError(AUDIT_UNAVAILABLE, STORAGE_UNAVAILABLE): nothing may be served without a log.
        """
        # The empty file comes first and is locked, so that recovery never meets a row whose file is yet to be
        # made; the row is committed before the first byte, so that no segment with records can be unknown.
        check_origin(origin)
        segment = Segment.create(Layout(folder), new_id())
        with store.transaction() as tx:
            tx.insert(SEGMENTS, segment.id, SegmentRow(state="live", opened=clock.now()))
        segment.begin(origin, clock.now(), clock.monotonic())
        recorder = cls(segment, store, clock, origin)
        recorder._hash_key = hash_key
        recorder._thread.start()
        return recorder

    @property
    def segment(self) -> str:
        """Id of this process's segment."""
        return self._segment.id

    # -- records ------------------------------------------------------------------------------------

    def write(self, event: Event, *, urgent: bool = False) -> Receipt:
        """Record an event. When it returns, a kill of this process cannot lose the record.

        Args:
            event: what happened.
            urgent: it may mend a full disk (a sudo operation); the reserve is given up for it.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): it is not recorded.
        """
        return self._write(encode_event(event), urgent=urgent)

    def _write(self, data: bytes, *, urgent: bool = False) -> Receipt:
        clock = self._clock
        with self._lock:
            try:
                self._segment.ensure_room(urgent=urgent)
                seq, leaf = self._segment.append(data, clock.now(), clock.monotonic())
            except KmsError as error:
                self._note(error)
                raise
            self._frame_if_full()
        return Receipt(self._origin, self._segment.id, seq, leaf)

    def stage(self, tx: Transaction, event: Event, *, urgent: bool = False) -> Staged:
        """Add the event to the transaction that makes the change it describes. Call `publish` after the commit.

        An `intent` also opens an entry that `outcome` or `failed` with the same id ends; an `outcome` without
        an open intent is a CONFLICT: somebody else (recovery) has ended it.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): the segment could not take the record; roll back.
        """
        self.check(urgent=urgent)
        staged = stage(tx, self._segment.id, event, self._clock, self._announced.get(event.id))
        with self._lock:
            self._staged[staged.key] = staged
        return staged

    def intend(self, event: Event, *, urgent: bool = False) -> Receipt:
        """Write an intent to the log alone, before an act that leaves nothing behind without its outcome.

        A kill of this process cannot lose it; recovery finds it in the segment. `stage` an `outcome` with the
        same id, or `conclude`, ends it.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): it is not recorded; do not act.
        """
        event, _ = timed(event, self._clock)
        # Known before it is written: what is in the file must never be missing here.
        announced = Announced(encode_event(event), self._clock.monotonic())
        with self._lock:
            self._announced[event.id] = announced
        try:
            self._refuse_when_failing(urgent=urgent)
            return self._write(announced.event, urgent=urgent)
        except KmsError:
            self._ended(event.id)
            raise

    def conclude(self, event: Event) -> Receipt:
        """Write the `outcome` of a written intent that changed no row.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): it is not recorded; the answer must not leave.
        """
        announced = self._announced.get(event.id)
        if announced is not None and announced.kept:
            with self._store.transaction() as tx:
                staged = self.stage(tx, event)
            return self.publish(staged)
        receipt = self.write(event)
        self._ended(event.id)
        return receipt

    def _ended(self, event_id: str) -> None:
        with self._lock:
            self._announced.pop(event_id, None)

    def publish(self, staged: Staged) -> Receipt:
        """After the commit: write the staged event to the segment, once.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): the answer must not leave. The event is in the database and will
                reach the log; this recorder keeps trying, and so does recovery.
        """
        clock = self._clock
        with self._lock:
            if staged.receipt is None:
                try:
                    seq, leaf = self._segment.append(
                        staged.event, clock.now(), clock.monotonic(), tx=staged.key
                    )
                except KmsError as error:
                    self._note(error)
                    raise
                staged.receipt = Receipt(self._origin, self._segment.id, seq, leaf)
                self._staged.pop(staged.key, None)
                self._announced.pop(staged.ends, None)
                self._frame_if_full()
            return staged.receipt

    def refuse(self, event: Event) -> Receipt | None:
        """Record a refusal of a caller that we do not know, or only count it when its source made many."""
        return self.write(event) if self._refusals.admit(event.peer) else None

    def count(self, operation: str, outcome: str = "ok") -> None:
        """Count a public call; one record per window holds the sums."""
        self._public.add(operation if outcome == "ok" else f"{operation} {outcome}")

    def hmac(self, value: bytes) -> str:
        """HMAC-SHA256 of a field's value under this instance's key, as "hmac-sha256:<hex>".

        Raises:
            KmsError(SEALED): the key is not available yet.
        """
        key = self._key
        if key is None:
            if self._hash_key is None:
                raise KmsError(ErrorKind.SEALED, "the key for audit HMACs is not available")
            key = self._key = self._hash_key()
        return f"hmac-sha256:{hmac.digest(key.reveal(ACCESS), value, 'sha256').hex()}"

    def renew_key(self) -> None:
        """The keyring changed: ask for the key of `hmac` again when it is next needed."""
        self._key = None

    # -- state --------------------------------------------------------------------------------------

    def check(self, *, urgent: bool = False) -> None:
        """Call before acting: raise KmsError(AUDIT_UNAVAILABLE) if a record could not be written now."""
        self._refuse_when_failing(urgent=urgent)
        with self._lock:
            try:
                self._segment.ensure_room(urgent=urgent)
            except KmsError as error:
                self._note(error)
                raise

    def _refuse_when_failing(self, *, urgent: bool) -> None:
        if (self._failure and not urgent) or not self._thread.is_alive():
            raise KmsError(ErrorKind.AUDIT_UNAVAILABLE, self._failure or "the audit recorder has stopped")

    def lag_seconds(self) -> float:
        """Age of the oldest record that the log's tree does not hold yet, to about a second."""
        with self._lock:
            return self._clock.monotonic() - self._frames[0][1] if self._frames else 0.0

    def healthy(self) -> bool:
        """Whether records can be written and are sequenced in time (see DEGRADED_SECONDS)."""
        return not self._failure and self._thread.is_alive() and self.lag_seconds() < DEGRADED_SECONDS

    def failures(self) -> int:
        """How many records could not be written since the start of this process."""
        return self._failures

    def flush(self) -> None:
        """Close the frame and make it durable now. Raises KmsError(AUDIT_UNAVAILABLE)."""
        with self._lock:
            self._frame()
        if self._segment.dirty:
            self._segment.sync()

    def close(self) -> None:
        """Write the sums, frame, last line; sync. What was staged but never committed is forgotten."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._write_sums()
        self._pay(after_seconds=0.0)
        self._keep_announced(after_seconds=0.0)
        with self._lock:
            self._segment.close(self._clock.now())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the thread ---------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(FRAME_SECONDS)
            self._wake.clear()
            try:
                self._tick()
            except KmsError as error:
                # Tried again at the next tick; until then `check` and health say so. A database that does not
                # answer only stops the look at the log, and so the lag grows by itself.
                if error.kind is ErrorKind.AUDIT_UNAVAILABLE:
                    self._failure = error.detail

    def _tick(self) -> None:
        if self._failure:
            self._resume()
        if self._segment.pending or self._segment.dirty:
            self.flush()
        now = self._clock.monotonic()
        if now - self._window >= WINDOW_SECONDS:
            self._window = now
            self._write_sums()
        if now - self._checked >= _LAG_CHECK_SECONDS:
            self._checked = now
            self._pay(_OWED_AFTER_SECONDS)
            self._keep_announced(KEEP_AFTER_SECONDS)
            self._look_at_log()

    def _resume(self) -> None:
        """After a failure only a write can tell whether its cause has gone; make it one that says so."""
        fields = {"failure": self._failure, "failures": self._failures}
        self.write(Event(id=new_uuid(), phase="done", operation="audit.resumed", fields=fields))
        self._failure = ""

    def _note(self, error: KmsError) -> None:
        self._failure = error.detail
        self._failures += 1

    def _frame_if_full(self) -> None:
        if self._segment.pending >= FRAME_RECORDS:
            self._frame()
            self._wake.set()

    def _frame(self) -> None:
        """With the lock held."""
        n = self._segment.n
        if self._segment.frame(self._clock.now()) and len(self._frames) < _MAX_FRAMES_KEPT:
            self._frames.append((n, self._clock.monotonic()))

    def _look_at_log(self) -> None:
        if not self._frames:
            return
        row = self._store.reader().get(LOG, LOG_KEY)
        with self._lock:
            if row is None:
                # Before init there is no log, and nobody who could sign one: nothing is late yet.
                self._frames = [(n, self._clock.monotonic()) for n, _ in self._frames[:1]]
                return
            position = row.value.positions.get(self._segment.id)
            if position is not None:
                self._frames = [frame for frame in self._frames if frame[0] >= position.n]

    def _write_sums(self) -> None:
        for operation, counts in (
            ("audit.refused", self._refusals.take()),
            ("audit.public", self._public.take()),
        ):
            if counts:
                self.write(
                    Event(
                        id=new_uuid(),
                        phase="counted",
                        operation=operation,
                        items=sum(counts.values()),
                        fields={"counts": counts, "window_seconds": int(WINDOW_SECONDS)},
                    )
                )

    def _keep_announced(self, after_seconds: float) -> None:
        """Recovery looks for written intents in the last part of a segment only: older ones go to the database."""
        now = self._clock.monotonic()
        with self._lock:
            waiting = [
                (event_id, announced)
                for event_id, announced in self._announced.items()
                if not announced.kept and now - announced.since >= after_seconds
            ]
        if waiting:
            with self._store.transaction() as tx:
                keep_intents(tx, self._segment.id, waiting, self._clock.now())

    def _pay(self, after_seconds: float) -> None:
        """Publish what was committed but did not reach the segment; forget what was rolled back."""
        now = self._clock.monotonic()
        with self._lock:
            waiting = [staged for staged in self._staged.values() if now - staged.since >= after_seconds]
        if not waiting:
            return
        owed, gone = sort_out(self._store, waiting, now)
        for staged in owed:
            self.publish(staged)
        with self._lock:
            for staged in gone:
                self._staged.pop(staged.key, None)
