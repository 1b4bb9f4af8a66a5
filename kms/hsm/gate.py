"""The way to the token: every call goes through `Gate.run`, which notices loss and reopens.

Rules:
 1. Only a lost token leads to a new initialisation (failures.py says what that is).
 2. Reopening waits until no call is in flight: C_Finalize under a running call crashes modules.
 3. Attempts are bounded: at most one per back-off step (0.25 s doubling to 2 s), whoever asks.
 4. A refused PIN is never sent again by this process (login.py).
 5. A call is repeated after reopening only if its caller said that it may be, or it never reached the token, and once.
 6. Two keys under one id are believed only when a new connection sees them as well.
 7. With a deadline, a call that hangs is given up for its caller, never made again, and no other is sent after it.
 8. A gate that was opened before a fork is dead in the child (H2).
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pkcs11 import exceptions as p11
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import Mechanism

from kms.clock import Clock
from kms.errors import KmsError
from kms.hsm.connection import Connection
from kms.hsm.deadline import HungError, Runner
from kms.hsm.durable import TokenFolder
from kms.hsm.failures import AbsentError, DoubtfulError, NotBegunError, TokenLostError, ckm, lacking
from kms.hsm.login import connect
from kms.hsm.model import HsmConfig
from kms.hsm.module import Module, unavailable
from kms.together import aside

T = TypeVar("T")
Work = Callable[[Connection, Any], T]

DEAD_MODULE: Final = (p11.DeviceError, p11.DeviceRemoved)
FIRST_DELAY: Final = 0.25
LAST_DELAY: Final = 2.0
DRAIN_SECONDS: Final = 5.0
TURN_SECONDS: Final = 1.0
RECYCLE_SECONDS: Final = 60.0
QUICK_SECONDS: Final = 0.002  # calls that take less are not worth a change of threads
MEAN_OF: Final = 8  # calls, about

_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for gate in _gates:
        gate.orphan()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Gate:
    """One module, one token, one connection at a time. Thread safe."""

    def __init__(
        self, config: HsmConfig, clock: Clock, accept: Work[None], module: Module | None = None
    ) -> None:
        """Load, log in and test; `accept` runs on each new connection before anybody uses it.

        With a `module` that is loaded already nothing is opened: members.py does it.

        Raises:
            KmsError(HSM_UNAVAILABLE)
        """
        self._config = config
        self._clock = clock
        self._accept = accept
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._lost: Connection | None = None  # its calls may still be in flight
        self._dead = ""  # why this gate never serves again
        self._answer = b""  # what the sentinel of the lost connection said: the token must be the same
        self._doubted: dict[bytes, int] = {}  # ids that were seen twice -> number of the connection
        self.doubtful = False  # what the module remembers of the token may be wrong (DoubtfulError)
        self._stale = False
        self._runner = Runner(config.deadline_seconds) if config.deadline_seconds else None
        self._hung_since = 0.0
        self._mean = 0.0  # seconds that a call takes
        self._next_attempt = 0.0
        self._delay = FIRST_DELAY
        self.files = TokenFolder(config.softhsm2_conf)
        _gates.add(self)
        if module is not None:
            self._module = module
            return
        with self.files.exclusive(clock):
            self._module = Module(config.module, config.variables, config.init_args)
            opened = False
            try:
                self._connection = self._establish()
                opened = True
            finally:
                if not opened:
                    self._module.close()

    @property
    def clock(self) -> Clock:
        """The clock that it was made with."""
        return self._clock

    def orphan(self) -> None:
        """This is a forked child: refuse everything from now on, and wait for no lock that a parent's thread held."""
        self._lock = threading.Lock()
        self._dead = "the HSM was opened before this process was forked; open it in the worker"
        self._connection = self._lost = None

    def run(
        self,
        work: Work[T],
        *,
        repeat: bool = False,
        data_refused: str | None = None,
        needs: Mechanism | None = None,
        slow: bool = False,
    ) -> T:
        """Do `work` with a session.

        Args:
            work: gets the connection and a leased session; may raise PKCS#11 errors and AbsentError.
            repeat: the work is idempotent, so it may be done again on a new connection.
            data_refused: see Connection.explain.
            slow: it may take much longer than most: generating pairs, tests.
            needs: a mechanism; refused by its name (INVALID) where the token does not have it.

        Raises:
            KmsError
        """
        if self._runner is None:
            return self._unwatched(lambda: self._run(work, repeat, data_refused, needs))
        runner = self._runner
        try:
            return aside(lambda: runner.run(lambda: self._run(work, repeat, data_refused, needs), slow=slow))
        except HungError as error:
            self._hang()
            raise unavailable("the HSM does not answer in time; it is tried again") from error

    def _unwatched(self, go: Callable[[], T]) -> T:
        """Without a deadline. A token that takes its time, or has to be opened, keeps no thread's other calls waiting."""
        began = self._clock.monotonic()
        try:
            quick = self._mean < QUICK_SECONDS and self._connection is not None
            return go() if quick else aside(go)
        finally:
            self._mean += (self._clock.monotonic() - began - self._mean) / MEAN_OF

    def _run(self, work: Work[T], repeat: bool, data_refused: str | None, needs: Mechanism | None) -> T:
        try:
            return self._once(work, data_refused, needs)
        except TokenLostError as error:
            if not repeat and not isinstance(error, DoubtfulError | NotBegunError):
                raise _lost() from error
        try:
            return self._once(work, data_refused, needs)
        except TokenLostError as error:
            raise _lost() from error

    def _once(self, work: Work[T], data_refused: str | None, needs: Mechanism | None) -> T:
        connection = self._connection or self._reopen()
        if needs is not None and needs not in connection.mechanisms:
            raise lacking(ckm(needs))
        try:
            session = connection.pool.lease()
            try:
                return work(connection, session)
            except PKCS11Error as error:
                raise connection.explain(session, error, data_refused, needs) from error
            except AbsentError as error:
                raise connection.explain_absent(session, error) from error
            finally:
                connection.pool.give_back(session)
        except DoubtfulError as error:
            if self._doubted.setdefault(error.cka_id, connection.number) != connection.number:
                raise error.confirmed() from None
            self.doubtful = True
            self._drop(connection)
            raise
        except TokenLostError:
            self._drop(connection)
            raise

    def _hang(self) -> None:
        """A call hangs: nobody else is sent after it. If that lasts, the worker is replaced."""
        now = self._clock.monotonic()
        connection = self._connection
        if connection is not None:
            self._hung_since = now
            self._drop(connection)
        elif now - self._hung_since > RECYCLE_SECONDS:
            # Nothing ends a call that hangs but the end of its process; a new one begins with new sockets.
            os.kill(os.getpid(), signal.SIGTERM)

    def _drop(self, connection: Connection) -> None:
        connection.pool.retired = True
        with self._lock:
            if self._connection is connection:
                self._connection = None
                self._lost = connection
                self._answer = connection.answer or self._answer

    def _reopen(self) -> Connection:
        """A new connection, made by one thread while others wait a moment for it."""
        if self._dead:
            raise unavailable(self._dead)
        if not self._lock.acquire(timeout=TURN_SECONDS):
            if self._hung_since:
                self._hang()
            raise unavailable("the HSM is being reopened; try again")
        try:
            if self._connection is not None:
                return self._connection
            if self._dead:
                raise unavailable(self._dead)
            if self._clock.monotonic() < self._next_attempt:
                raise _lost()
            connection = self._restart()
            self._connection, self._lost = connection, None
            self._delay = FIRST_DELAY
            return connection
        finally:
            self._lock.release()

    def _restart(self) -> Connection:
        reopened = False
        try:
            patience = DRAIN_SECONDS if self._runner is None else 0.0
            if self._lost is not None and not self._lost.pool.drain(self._clock, patience):
                if self._runner is not None:
                    self._hang()
                raise unavailable(
                    "the HSM does not answer: calls are still in flight; the worker must be replaced"
                )
            with self.files.exclusive(self._clock):
                if self._stale:
                    self._module.reload()
                else:
                    self._module.restart()
                connection = self._establish()
            reopened, self._stale, self._hung_since = True, False, 0.0
            return connection
        except KmsError as error:
            # It went on failing after it was initialised again: p11-kit keeps a dead socket. From now on it is
            # loaded anew each time, until it works, as without a far side it then lists no token at all.
            self._stale = self._stale or isinstance(error.__cause__, DEAD_MODULE)
            raise
        finally:
            if not reopened:
                self._next_attempt = self._clock.monotonic() + self._delay
                self._delay = min(2 * self._delay, LAST_DELAY)

    def _establish(self) -> Connection:
        connection = connect(self._module, self._config, self._answer)
        self.files.logged_in()
        if self._answer and connection.answer != self._answer:
            raise unavailable(
                "another token stands under the label: its sentinel key is missing or different"
            )
        session = connection.pool.lease()
        try:
            self._accept(connection, session)
        except (PKCS11Error, TokenLostError) as error:
            raise unavailable(f"the HSM failed its self-test ({type(error).__name__})") from error
        finally:
            connection.pool.give_back(session)
        return connection

    def close(self) -> None:
        """Wait for the calls in flight, then log out by finalising the module. Idempotent."""
        with self._lock:
            self._dead = self._dead or "the HSM was closed"
            connection, self._connection = self._connection, None
            if connection is None or connection.pool.drain(self._clock, DRAIN_SECONDS):
                self._module.close()


def _lost() -> KmsError:
    return unavailable("the HSM is not available; it is tried again")
