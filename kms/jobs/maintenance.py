"""The periodic work of one server: what each task is and how often it runs. Built by `kms.app` for the jobs process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kms.audit.recorder import Recorder
from kms.audit.recovery import Recovery
from kms.clock import Clock
from kms.errors import KmsError
from kms.hsm import Hsm
from kms.identity import TokenService
from kms.jobs.fence import Fence
from kms.jobs.logkeeper import LogKeeper
from kms.jobs.scheduler import Task
from kms.jobs.selftester import SelfTester
from kms.jobs.sweeper import Sweeper
from kms.keys import KeyService
from kms.keys.roots import Roots
from kms.keys.terms import KeyringRotator
from kms.operation import Change, External, Needs
from kms.pipeline import Pipeline, Registry
from kms.resolving import resolve_intents
from kms.system.compromise import Work
from kms.system.state import ServerState
from kms.tables import Store

_REAPED_AT_ONCE = 200
DESTROYING = frozenset({"transit.pending.destroy"})
"""Chores after which no byte of what was destroyed may be left in any file."""


class Chore(Protocol):
    """Background work of an engine that has come due."""

    @property
    def operation(self) -> str:
        """The registered name to record it under."""
        ...

    @property
    def mount_id(self) -> str:
        """The mount that it concerns."""
        ...

    @property
    def external(self) -> External[Any]:
        """What to do."""
        ...


Run = Callable[[str, str, Change], None]
"""Records and commits a change of an errand: (registered operation, resource, change)."""


@dataclass(frozen=True)
class Errand:
    """Periodic work of an engine that makes changes, or none.

    Args:
        every_seconds: how often `due` is asked, in the thread of all periodic work: it must be cheap.
        due: whether there is anything to do.
        work: does it, in little time; what waits for others runs in threads of the engine.
    """

    name: str
    every_seconds: float
    due: Callable[[], bool]
    work: Callable[[Run], object]


@dataclass(frozen=True)
class Maintenance:
    """The parts that periodic work needs.

    Args:
        recover: ends the segments of dead processes, finds the intents that they left open.
        chores: due work of each engine at a time.
        errands: the engines' own tasks.
        scrub: leaves no old page of the database in its write-ahead log.
        tester: tests HSM and primitives.
        sweeper: compares the state digests in a thread of its own.
        trim: drops old announcements.
        compromise: portions of a recovery from a stolen keyring, while one runs.
        rotation: the rest of a root rotation that waited for a copy.
        enrolment: what tokens lack that were away, once they answer again.
    """

    store: Store
    state: ServerState
    hsm: Callable[[], Hsm]
    pipeline: Pipeline
    registry: Registry
    recorder: Recorder
    log_keeper: LogKeeper
    tokens: TokenService
    keys: KeyService
    keyring: KeyringRotator
    roots: Roots
    clock: Clock
    recover: Callable[[], Recovery]
    chores: Mapping[str, Callable[[float], Iterable[Chore]]]
    errands: Sequence[Errand]
    scrub: Callable[[], bool]
    tester: SelfTester
    sweeper: Sweeper
    trim: Callable[[], int]
    compromise: Callable[[], Iterable[Work]]
    enrolment: Callable[[], Iterable[External[Any]]]
    rotation: Callable[[], External[Any] | None]

    def tasks(self, fence: Fence) -> Sequence[Task]:
        """The tasks of the jobs process that holds `fence`."""

        def serving(
            work: Callable[[], object], ready: Callable[[], bool] = lambda: self.state.serving
        ) -> Callable[[], object]:
            """Only while keys can be used, and only by the newest jobs process."""

            def run() -> object:
                if not ready():
                    return None
                with self.store.transaction() as tx:
                    fence.guard(tx)
                self.store.refresh(thorough=True)
                return work()

            return run

        def errand(one: Errand) -> Task:
            work = serving(lambda: one.work(self._run))
            # Asked before the fence, which takes the write lock.
            return Task(
                one.name, one.every_seconds, lambda: work() if self.state.serving and one.due() else None
            )

        testing = serving(self.tester.step, lambda: self.state.opened)
        return (
            *(errand(one) for one in self.errands),
            Task("audit.sequence", 0.5, self.log_keeper.step),
            Task("audit.mend", 2.0, self.mend),
            Task("hsm.check", 15.0, serving(lambda: self.hsm().check())),
            Task("hsm.self-test", 1.0, testing, due=self.tester.due),
            Task("hsm.tokens", 2.0, serving(self._complete_tokens)),
            Task("tokens.reap", 30.0, serving(self._reap)),
            Task("keys.abandoned", 60.0, serving(self.keys.destroy_abandoned)),
            Task("roots.discarded", 60.0, serving(self.roots.destroy_discarded)),
            Task("keyring.rotate", 60.0, serving(self._rotate_keyring)),
            Task("engines.chores", 30.0, serving(self._chores)),
            Task("sys.compromise", 1.0, serving(self._continue_compromise)),
            Task("storage.trim", 300.0, self.trim),
            Task("storage.sweep-begin", 1.0, serving(self.sweeper.begin), due=self.sweeper.due),
            Task("storage.sweep", 1.0, self.sweeper.take, due=self.sweeper.ended),
        )

    def mend(self) -> None:
        """End the segments of processes that died, and the intents that they left open.

        An intent whose operation needs keys waits until the server is open.
        """
        found = self.recover()
        # What the workers did must be seen before anything is concluded from the caches of this process.
        self.store.refresh(thorough=True)
        ready = [
            intent
            for intent in found.intents
            if self.registry[intent.operation].needs is Needs.NOTHING or self.state.serving
        ]
        failure: KmsError | None = None
        for intent in ready:
            try:
                resolve_intents(self.registry, [intent], store=self.store, recorder=self.recorder)
            except KmsError as error:
                failure = failure or error  # tried again in two seconds; the others do not wait for it
        if failure is not None:
            raise failure

    def _reap(self) -> None:
        # In portions, so that no request waits long for the write lock; until none is left.
        while self.tokens.reap(_REAPED_AT_ONCE) >= _REAPED_AT_ONCE:
            pass

    def _rotate_keyring(self) -> None:
        if self.keyring.due():
            self._run("sys.keyring.rotate", "sys/rotate", self.keyring.rotate())

    def _chores(self) -> None:
        failure: KmsError | None = None
        destroyed = False
        for engine, due in self.chores.items():
            for chore in due(self.clock.now()):
                try:
                    self._run(chore.operation, f"{engine}/{chore.mount_id}", chore.external)
                except KmsError as error:
                    failure = failure or error  # one engine's trouble must not keep the others waiting
                destroyed = destroyed or chore.operation in DESTROYING
        if destroyed:
            self.scrub()
        if failure is not None:
            raise failure

    def _continue_compromise(self) -> None:
        for portion in self.compromise():
            self._run(portion.operation, portion.resource, portion.work)
            self.store.refresh(thorough=True)

    def _complete_tokens(self) -> None:
        for work in self.enrolment():
            self._run("sys.hsm.tokens.complete", "sys/hsm/tokens", work)
        if (rest := self.rotation()) is not None:
            self._run("sys.root.rotate", "sys/hsm/root/rotate", rest)

    def _run(self, operation: str, resource: str, work: Change | External[Any]) -> None:
        self.pipeline.chore(self.registry[operation], resource, work)
