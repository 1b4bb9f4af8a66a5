"""Real parts of the log on a temporary folder: store, recorder, sequencer, verifier, and a clock that can jump."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kms.audit import Event, LogKey, Recorder, Recovery, Sequencer, Snapshot, recover
from kms.audit.layout import Layout
from kms.audit.verify import Report, TrustFile, verify
from kms.clock import SystemClock
from kms.errors import KmsError
from kms.storage import SqliteStore
from kms.tables import Table
from tests.support import make_sealer, make_store

ORIGIN = "keystead.test/log"


class Thing(msgspec.Struct, frozen=True):
    """Some state that a change writes."""

    name: str


THINGS = Table("test/thing/1", "things", Thing, sealed=False)


class JumpClock(SystemClock):
    """The machine's clock, moved forward by `jump`."""

    def __init__(self) -> None:
        self.jump = 0.0

    def now(self) -> float:
        return super().now() + self.jump

    def monotonic(self) -> float:
        return super().monotonic() + self.jump


class Signer:
    """An Ed25519 key in memory, in place of the HSM; `fails` makes it refuse."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()
        self.fails: KmsError | None = None

    def sign(self, message: bytes) -> bytes:
        if self.fails is not None:
            raise self.fails
        return self._key.sign(message)


class Rig:
    """One server's log. Parts are opened on demand; `shut` closes what a test left open."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.folder = folder / "audit"
        self.layout = Layout(self.folder)
        self.clock = JumpClock()
        self.signer = Signer()
        self.key = LogKey(ORIGIN, self.signer.public)
        self.trust = TrustFile((self.key,))
        self._sealer = make_sealer()
        self.store = self.open_store()
        self.store._database().conn.execute(
            "CREATE TABLE IF NOT EXISTS things (key TEXT PRIMARY KEY, revision INTEGER NOT NULL,"
            " term INTEGER NOT NULL, body BLOB NOT NULL) STRICT"
        )
        self._open: list[Callable[[], None]] = []

    def open_store(self) -> SqliteStore:
        """Another view of the same database, as another process has one."""
        (self.root / "db").mkdir(exist_ok=True)
        return make_store(self.root / "db", self._sealer)

    def recorder(self, store: SqliteStore | None = None) -> Recorder:
        return Recorder.open(self.folder, store or self.store, self.clock, origin=ORIGIN)

    def sequencer(self, snapshot: Callable[[], Snapshot] = Snapshot) -> Sequencer:
        sequencer = Sequencer(
            self.folder,
            self.store,
            self.signer,
            self.clock,
            origin=ORIGIN,
            snapshot=snapshot,
            reserve_bytes=64 * 1024,
        )
        sequencer.start()
        self._open.append(sequencer.abandon)
        return sequencer

    def recover(self) -> Recovery:
        return recover(self.folder, self.store, self.clock, origin=ORIGIN)

    def verify(self) -> Report:
        return verify(self.folder, self.trust)

    def verified(self) -> Report:
        """The report of a folder that must hold."""
        report = self.verify()
        assert report.failure is None, report.failure
        return report

    def shut(self) -> None:
        for close in self._open:
            close()
        self.store.close()

    # -- events -------------------------------------------------------------------------------------

    def change(self, recorder: Recorder, name: str, store: SqliteStore | None = None) -> Event:
        """A change of state with its record, as the pipeline makes one."""
        happened = event("done", "thing.create", resource=f"things/{name}")
        with (store or self.store).transaction() as tx:
            tx.insert(THINGS, happened.id, Thing(name))
            staged = recorder.stage(tx, happened)
        recorder.publish(staged)
        return happened

    def intend(self, recorder: Recorder, name: str) -> Event:
        """The intent of an external operation."""
        intent = event("intent", "thing.forge", resource=f"things/{name}", subject={"name": name})
        with self.store.transaction() as tx:
            staged = recorder.stage(tx, intent)
        recorder.publish(staged)
        return intent

    def conclude(self, recorder: Recorder, intent: Event, outcome: str = "ok") -> None:
        """The end of it."""
        ended = msgspec.structs.replace(intent, phase="outcome", outcome=outcome, at=0.0)
        with self.store.transaction() as tx:
            staged = recorder.stage(tx, ended)
        recorder.publish(staged)


def event(phase: str = "done", operation: str = "thing.read", **more: object) -> Event:
    """An event with an id of its own."""
    return msgspec.convert(
        {"id": secrets.token_hex(16), "phase": phase, "operation": operation, **more}, Event
    )


def die(recorder: Recorder) -> None:
    """What kill -9 leaves of a recorder: its files as they are, its lock given back."""
    recorder._ending.set()
    recorder._wake.set()
    recorder._thread.join()
    recorder._segment.abandon()
