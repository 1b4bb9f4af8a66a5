"""Leases of an engine that is made for the tests, over real tokens and a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kms.errors import ErrorKind, KmsError
from kms.leases import Lease, Revoker, Revokers
from kms.leases.book import Terms
from kms.leases.desk import LeaseDesk
from kms.leases.errands import LeaseErrands
from kms.operation import ROOT_NAMESPACE, Call, Capability, Change, MountRef, Operation, Principal, Result
from kms.tables import Transaction
from tests.identity.wire import FakeClock, Process, Server

MOUNT = MountRef("m-db", "db/", "fake", "fake_0")
_OPERATION = Operation("fake.creds", Capability.READ, lambda _call: Result())


@dataclass
class Engine:
    """Remembers what was taken back; refuses while `broken`."""

    taken: list[str] = field(default_factory=list)
    broken: bool = False

    def revoke(self, _tx: Transaction, lease: Lease, _now: float) -> str:
        if self.broken:
            raise KmsError(ErrorKind.INVALID, "the database is away")
        self.taken.append(str(lease.data["user"]))
        return str(lease.data["user"])

    def revoker(self) -> Revoker:
        return Revoker("fake.user", self.revoke, lambda _lease, wanted: wanted)


@dataclass
class Rig:
    """One process with leases."""

    server: Server
    clock: FakeClock
    engine: Engine

    def __post_init__(self) -> None:
        self.desk = self.process(self.server.first)
        self.errands = LeaseErrands(self.desk, self.server.first.store)
        self.records: list[dict[str, str | int]] = []

    def process(self, process: Process) -> LeaseDesk:
        """The leases of another worker."""
        barriers = process.tokens.book.barriers
        return LeaseDesk(
            process.store, process.tokens, barriers, Revokers([self.engine.revoker()]), self.clock.now
        )

    def names(self, prefix: str) -> list[str]:
        """Names directly below a prefix."""
        return self.desk.names(ROOT_NAMESPACE, prefix, lambda _path: False)

    def call(self, token: str, path: str = "db/creds/app") -> Call:
        """A request that the token made."""
        principal = self.server.first.tokens.authenticate(token, "127.0.0.1") if token else Principal()
        return Call(_OPERATION, path, MOUNT, {}, "id", "127.0.0.1", "test", principal=principal)

    def issue(self, token: str, user: str, path: str = "db/creds/app", **terms: int) -> str:
        """A lease; its ID."""
        granted = Terms("fake.user", terms.pop("ttl", 3600), {"user": user}, renewable=True, **terms)
        with self.server.first.store.transaction() as tx:
            return self.server.first.tokens.book.issue(tx, self.call(token, path), granted).id

    def write(self, act: Callable[[Transaction], object]) -> None:
        """In a commit."""
        with self.server.first.store.transaction() as tx:
            act(tx)

    def run(self) -> None:
        """What the jobs process does once a second, until nothing is due."""

        def recorded(_operation: str, _resource: str, change: Change) -> None:
            with self.server.first.store.transaction() as tx:
                self.records.append(dict(change.write(tx).subject))

        for _ in range(20):
            self.server.first.store.refresh()
            self.server.first.tokens.reap()
            if not self.desk.due():
                return
            self.errands.expire(recorded)
        raise AssertionError("something stays due")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    clock = FakeClock()
    server = Server(tmp_path, clock)
    yield Rig(server, clock, Engine())
    server.close()
