"""Several tokens of one module: who logs in when, and what happens to the others when one is lost.

C_Initialize and C_Finalize are of the module, not of the slot. Where a module only finds a token again once it is initialised
anew, the sessions of all its other tokens end with that. So one thread of the house does it, for all of them:

 1. nobody else reopens anything; a caller of a token that was lost just now waits for the first attempt, and one of a
    token that stays away is refused at once;
 2. before the module is initialised anew, the other tokens pause: no call begins, those in flight end, and
    afterwards each logs in again and goes on. If one does not end in time, the module is left alone;
 3. while another token serves, the pauses become rarer: after 0.25 s, doubling to 8 s;
 4. a module that is no SoftHSM is asked quietly first: many find a token again without a new beginning.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from kms.clock import Clock
from kms.errors import KmsError, invalid
from kms.hsm.connection import Connection
from kms.hsm.durable import TokenFolder
from kms.hsm.gate import DEAD_MODULE, DRAIN_SECONDS, FIRST_DELAY, LAST_DELAY, Gate, Work
from kms.hsm.model import HsmConfig
from kms.hsm.module import Module, unavailable

SHARED_LAST_DELAY: Final = 8.0
PATIENCE_SECONDS: Final = 15.0  # for a pause or a first attempt; both take a fraction of a second


class MemberGate(Gate):
    """The way to one of several tokens. Opened, lost, paused and found again by its `House`."""

    def __init__(self, config: HsmConfig, clock: Clock, accept: Work[None], house: House) -> None:
        super().__init__(config, clock, accept, house.module)
        self._house = house
        self._settled = threading.Event()  # clear while it is being found out whether the token is there
        self._made: Connection | None = None  # logged in, and takes no calls yet
        self.problem: KmsError | None = None  # why it is away

    @property
    def up(self) -> bool:
        """Whether calls are taken now, or will be in a moment."""
        return self._connection is not None or not self._settled.is_set()

    @property
    def lost(self) -> bool:
        """Whether there is no connection."""
        return self._connection is None

    def back(self) -> bool:
        """Whether the token is there after all: waits for the first attempt when it was lost just now."""
        return self._settled.wait(PATIENCE_SECONDS) and self._connection is not None

    def connect(self) -> None:
        """Log in, the module being initialised; `admit` then lets calls in. For the house only.

        Raises:
            KmsError(HSM_UNAVAILABLE): also kept as `problem`.
        """
        try:
            self._made = self._establish()
        except KmsError as error:
            self.problem = error
            raise
        self.problem, self.doubtful = None, False

    def admit(self) -> None:
        """Take calls with the connection that `connect` made, if it did."""
        with self._lock:
            made, self._made = self._made, None
            if made is not None:
                self._connection, self._lost = made, None

    def settle(self) -> None:
        """It is known now whether the token is there: those who wait go on."""
        self._settled.set()

    def idle(self) -> bool:
        """Whether no call of a lost connection is in flight any more."""
        patience = DRAIN_SECONDS if self._runner is None else 0.0
        return self._lost is None or self._lost.pool.drain(self._clock, patience)

    @contextmanager
    def paused(self) -> Iterator[bool]:
        """No call is in flight inside, and none begins; False if that cannot be had.

        Unless `connect` was called inside, it goes on with the connection that it had.
        """
        with self._lock:
            before, self._connection = self._connection, None
        if before is None:
            yield True  # it is lost; `idle` was asked
            return
        self._settled.clear()
        try:
            still = before.pool.drain(self._clock, DRAIN_SECONDS)
            if still:
                self._answer = before.answer or self._answer
            yield still
        finally:
            self._go_on(before)

    def _go_on(self, before: Connection) -> None:
        with self._lock:
            if self._connection is None and self.problem is None:
                before.pool.resume()
                self._connection = before
        self._settled.set()

    def _drop(self, connection: Connection) -> None:
        super()._drop(connection)
        if self._connection is None and self._lost is connection and self._settled.is_set():
            self._settled.clear()
            self._house.alarm()

    def _reopen(self) -> Connection:
        if not self._settled.wait(PATIENCE_SECONDS):
            raise unavailable("the HSM is being reopened; try again")
        connection = self._connection
        if self._dead:
            raise unavailable(self._dead)
        if connection is None:
            raise self.problem or unavailable("the HSM is not available; it is tried again")
        return connection

    def orphan(self) -> None:
        super().orphan()
        self._settled = threading.Event()
        self._settled.set()

    def _hang(self) -> None:
        """Another token may do the work, so the worker stays; the house tries this one again when the call has ended."""
        connection = self._connection
        if connection is not None:
            self._drop(connection)

    def shut(self) -> None:
        """Take no calls any more, and wait for those in flight. The house closes the module."""
        with self._lock:
            self._dead = self._dead or "the HSM was closed"
            connection, self._connection = self._connection, None
        self._settled.set()
        if connection is not None:
            connection.pool.drain(self._clock, DRAIN_SECONDS)


class House:
    """A loaded module, and the ways to those of its tokens that this process uses."""

    def __init__(self, configs: Sequence[HsmConfig], clock: Clock, accepts: Sequence[Work[None]]) -> None:
        """Load the module and log in to each token that is there. All `configs` name one module.

        `accepts`: what a connection to each of them has to pass.

        Raises:
            KmsError(HSM_UNAVAILABLE): the module does not load. A token that is away is no error.
        """
        first = configs[0]
        self._clock = clock
        self._alarm = threading.Event()
        self._ending = threading.Event()
        self._stale = False
        self.files = TokenFolder(first.softhsm2_conf)
        with self.files.exclusive(clock):
            self.module = Module(first.module, first.variables, first.init_args)
            self.gates = [
                MemberGate(config, clock, accept, self)
                for config, accept in zip(configs, accepts, strict=True)
            ]
            self._connect(self.gates)
        for gate in self.gates:
            gate.settle()
        self._thread = threading.Thread(target=self._watch, name="hsm-house", daemon=True)
        self._thread.start()
        if any(gate.lost for gate in self.gates):
            self.alarm()

    def alarm(self) -> None:
        """A token was lost."""
        self._alarm.set()

    def close(self) -> None:
        """End all calls, then the module."""
        self._ending.set()
        self._alarm.set()
        for gate in self.gates:
            gate.shut()
        self._thread.join(PATIENCE_SECONDS)
        self.module.close()

    def _watch(self) -> None:
        while True:
            self._alarm.wait()
            if self._ending.is_set():
                return
            delay = FIRST_DELAY
            while lost := [gate for gate in self.gates if gate.lost]:
                if self._ending.is_set():
                    return
                self._alarm.clear()
                self._attempt(lost)
                alone = all(gate.lost for gate in self.gates)
                if any(gate.lost for gate in self.gates) and not self._alarm.wait(delay):
                    delay = min(2 * delay, LAST_DELAY if alone else SHARED_LAST_DELAY)
            self._alarm.clear()

    def _attempt(self, lost: Sequence[MemberGate]) -> None:
        try:
            self._revive(lost)
        except KmsError as error:
            for gate in lost:
                gate.problem = gate.problem or error
        finally:
            for gate in lost:
                gate.settle()

    def _revive(self, lost: Sequence[MemberGate]) -> None:
        if not all(gate.idle() for gate in lost):
            raise unavailable("the HSM does not answer: calls are still in flight")
        with self.files.exclusive(self._clock):
            quiet = self.files.path is None and not any(gate.doubtful for gate in lost)
            if quiet and len(lost) < len(self.gates):
                self._connect(lost)
                lost = [gate for gate in lost if gate.lost]
                if not lost:
                    return
            self._restart()

    def _restart(self) -> None:
        with ExitStack() as stack:
            if not all(stack.enter_context(gate.paused()) for gate in self.gates):
                raise unavailable("the module cannot be initialised anew: calls are still in flight")
            if self._stale and all(gate.problem is not None for gate in self.gates):
                self.module.reload()
            else:
                self.module.restart()
            self._connect(self.gates)

    def _connect(self, gates: Sequence[MemberGate]) -> None:
        for gate in gates:
            try:
                gate.connect()
            except KmsError as error:
                self._stale = self._stale or isinstance(error.__cause__, DEAD_MODULE)
        # Only now: a search in one token of SoftHSM found nothing while another was being logged in to.
        for gate in gates:
            gate.admit()


def houses(
    configs: Sequence[HsmConfig], clock: Clock, accepts: Sequence[Work[None]]
) -> tuple[list[House], list[MemberGate]]:
    """Open each module once; the gates come in the order of `configs`.

    Raises:
        KmsError(HSM_UNAVAILABLE): no token is there, for the reason that the first one has.
    """
    _check_alike(configs)
    built: dict[Path, House] = {}
    gates: dict[int, MemberGate] = {}
    opened = False
    try:
        for number, config in enumerate(configs):
            if config.module in built:
                continue
            same = [place for place in range(number, len(configs)) if configs[place].module == config.module]
            house = House([configs[place] for place in same], clock, [accepts[place] for place in same])
            built[config.module] = house
            gates |= dict(zip(same, house.gates, strict=True))
        ordered = [gates[number] for number in range(len(configs))]
        if all(gate.lost for gate in ordered):
            raise ordered[0].problem or unavailable("no token of the HSM is there")
        opened = True
        return list(built.values()), ordered
    finally:
        if not opened:
            for house in built.values():
                house.close()


def _check_alike(configs: Sequence[HsmConfig]) -> None:
    """A module is initialised once, so its tokens share what it reads then."""
    first: dict[Path, HsmConfig] = {}
    for config in configs:
        other = first.setdefault(config.module, config)
        if (other.variables, other.init_args) != (config.variables, config.init_args):
            raise invalid(
                f"two tokens of the module {config.module} need the same softhsm2_conf, environment and init_args"
            )
