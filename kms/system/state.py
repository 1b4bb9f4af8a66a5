"""Is this server uninitialised, sealed or open? The same answer in every process, within one request.

The truth is the instance row (initialized, latch). Reading it for every request would cost a query,
so whoever changes it bumps the seal epoch in the page that all processes share, and each process
looks again when the epoch moved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.operation import Needs, Operation
from kms.system.instance import Instance, read_instance
from kms.tables import Store

_RETRY_SECONDS = 1.0
_AUDIT_STALLED_SECONDS = 60.0


class Phase(StrEnum):
    """What the instance row says."""

    UNINITIALIZED = "uninitialized"
    SEALED = "sealed"
    OPEN = "open"


class Board(Protocol):
    """The part of the shared page that concerns the seal. Never on disk."""

    def seal_epoch(self) -> int:
        """Grows whenever the instance row changed."""
        ...

    def bump_seal_epoch(self) -> None:
        """Tell every process to look again."""
        ...

    def faulty(self) -> bool:
        """Whether the last self-test had a wrong answer."""
        ...

    def set_faulty(self, faulty: bool) -> None:
        """Say so, and tell every process to look again."""
        ...

    def quorum_shares(self) -> tuple[str, list[bytes]]:
        """(nonce, shares given so far) of the unseal attempt that is under way."""
        ...

    def add_quorum_share(self, share: bytes) -> None:
        """Add one share; the same share twice counts once."""
        ...

    def reset_quorum(self) -> None:
        """Forget the attempt and overwrite its shares."""
        ...


class ServerState:
    """The gate of the pipeline, and what health and seal-status report.

    Args:
        open_keyring: opens the HSM and unlocks the store for this instance id; raises
            KmsError(HSM_UNAVAILABLE) when the token does not answer.
        close_keyring: forgets keys and logs out of the HSM.
        renew_keyring: takes in keyring terms that another process added.
        audit_lag: seconds since the oldest record that the sequencer has not taken up.
    """

    def __init__(
        self,
        store: Store,
        board: Board,
        clock: Clock,
        *,
        open_keyring: Callable[[str], None],
        close_keyring: Callable[[], None],
        renew_keyring: Callable[[], None],
        audit_lag: Callable[[], float],
    ) -> None:
        self._store = store
        self._board = board
        self._clock = clock
        self._open_keyring = open_keyring
        self._close_keyring = close_keyring
        self._renew_keyring = renew_keyring
        self._audit_lag = audit_lag
        self._lock = threading.RLock()
        self._epoch = -1
        self._phase = Phase.UNINITIALIZED
        self._instance: Instance | None = None
        self._ready = False
        self._faulty = False
        self._was_open = False
        self._problem: KmsError | None = None
        self._retry_at = 0.0

    @property
    def instance(self) -> Instance | None:
        """The instance row as of the last look."""
        return self._instance

    @property
    def phase(self) -> Phase:
        """What the instance row says, looked up again when the epoch moved."""
        if self._board.seal_epoch() != self._epoch:
            self._look()
        return self._phase

    @property
    def serving(self) -> bool:
        """Whether operations on keys are possible now: open, and no self-test has failed."""
        return self.opened and not self._faulty

    @property
    def opened(self) -> bool:
        """Whether the instance is unsealed, and the HSM gave us the keyring."""
        if self.phase is Phase.OPEN and not self._ready:
            self._try_open()
        return self._phase is Phase.OPEN and self._ready

    @property
    def leaving(self) -> bool:
        """Whether this process was open and the server has been sealed since: it must end."""
        return self.phase is Phase.SEALED and self._was_open

    def admit(self, operation: Operation) -> None:
        """Raise unless the server can serve this operation now (kms.pipeline.Gate)."""
        if operation.needs is Needs.NOTHING:
            return
        self.demand_open()

    def admit_change(self, operation: Operation) -> None:
        """Raise while the log is too far behind to take a change (kms.pipeline.Gate).

        Asked of what a call really changes, not of what its operation may: an encrypt that finds its
        key changes nothing. init and unseal are let through: without them nothing could be sequenced.
        """
        if operation.needs is Needs.NOTHING or self._audit_lag() <= _AUDIT_STALLED_SECONDS:
            return
        detail = "the audit log has not been sequenced for a minute; state changes are refused until it is"
        raise KmsError(ErrorKind.AUDIT_UNAVAILABLE, detail)

    def demand_open(self) -> None:
        """Return when keys can be used, opening the keyring first where this process has not yet.

        Raises:
            KmsError(UNINITIALIZED, SEALED, HSM_UNAVAILABLE, INTEGRITY): why they cannot.
        """
        if self.phase is Phase.UNINITIALIZED:
            raise KmsError(ErrorKind.UNINITIALIZED, "Vault is sealed")
        if self._phase is Phase.SEALED:
            raise KmsError(ErrorKind.SEALED, "Vault is sealed")
        if not self._ready:
            self._try_open()
            if self._problem is not None:
                raise _again(self._problem)
        if self._faulty:
            raise KmsError(
                ErrorKind.HSM_UNAVAILABLE, "a self-test failed; nothing is served until one passes"
            )

    def distrust(self) -> None:
        """A self-test had a wrong answer: every process refuses all that needs keys when this returns."""
        if not self._board.faulty():
            self._board.set_faulty(True)

    def trust(self) -> None:
        """A self-test was right."""
        if self._board.faulty():
            self._board.set_faulty(False)

    def refuse_stranger(self) -> None:
        """Raise if the HSM answers and is not the one of this server: no start will mend that."""
        if self._problem is not None and self._problem.for_caller:
            raise _again(self._problem)

    def _look(self) -> None:
        with self._lock:
            # Read the epoch first: a bump during our look makes the next request look again.
            epoch = self._board.seal_epoch()
            self._faulty = self._board.faulty()
            row = read_instance(self._store.reader())
            self._instance = row.value if row is not None else None
            if self._instance is None or not self._instance.initialized:
                self._phase = Phase.UNINITIALIZED
            elif self._instance.sealed:
                self._phase = Phase.SEALED
            else:
                self._phase = Phase.OPEN
            if self._phase is Phase.SEALED and self._ready:
                self._ready = False
                self._close_keyring()
            if self._phase is Phase.OPEN and self._ready and not self._renewed():
                return  # the next look tries again; a row under a term that is missing here loads it by itself
            self._epoch = epoch

    def _renewed(self) -> bool:
        try:
            self._renew_keyring()
        except KmsError as error:
            if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                raise
            return False
        return True

    def _try_open(self) -> None:
        with self._lock:
            if self._ready or self._instance is None:
                return
            now = self._clock.monotonic()
            if now < self._retry_at:
                return
            try:
                self._open_keyring(self._instance.id)
            except KmsError as error:
                # One attempt a second and process: a wrong PIN must not become a login storm.
                self._problem = error
                self._retry_at = now + _RETRY_SECONDS
                return
            self._problem = None
            self._ready = self._was_open = True


def _again(problem: KmsError) -> KmsError:
    """A copy to raise: an exception that is raised twice shows the first one's road."""
    copy = KmsError(problem.kind, problem.detail)
    copy.for_caller = problem.for_caller
    return copy
