"""The sessions of one login.

The first session logs in and stays open as long as the connection lives, because closing one logged-in
session logs the whole process out (H5); later ones are opened without a PIN and share the login. No
session is ever closed by itself: that would destroy the session objects, loaded keys, that it made. A pool of
one is the process-wide lock for modules without OS locking (H1).
"""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Any, Final

from pkcs11.exceptions import PKCS11Error, SessionCount

from kms.clock import Clock
from kms.hsm.failures import NotBegunError, TokenLostError
from kms.hsm.module import unavailable
from kms.hsm.templates import attribute_mapper

MAX_SESSIONS: Final = 16
WAIT_SECONDS: Final = 5.0


class SessionPool:
    """Hands out sessions, each to one thread at a time."""

    def __init__(self, token: Any, first: Any, limit: int) -> None:
        self._token = token
        self._limit = limit
        self._opened = 1
        self._idle: SimpleQueue[Any] = SimpleQueue()
        self._idle.put(first)
        self._lock = threading.Lock()
        self._drained: list[Any] = []
        self.retired = (
            False  # the token is lost, or the module is about to be restarted; nothing is handed out
        )

    def lease(self) -> Any:
        """A session for this thread; give it back whatever happens.

        Raises:
            NotBegunError: the pool is retired.
            TokenLostError: the token gives no session.
            KmsError(HSM_UNAVAILABLE): all sessions stayed busy for five seconds.
        """
        try:
            session = self._idle.get_nowait()
        except Empty:
            session = self._grow()
            if session is None:
                session = self._wait()
        if self.retired:
            self._idle.put(session)
            raise NotBegunError
        return session

    def give_back(self, session: Any) -> None:
        """End of a lease."""
        self._idle.put(session)

    def _grow(self) -> Any:
        with self._lock:
            if self._opened >= self._limit or self.retired:
                return None
            self._opened += 1
        try:
            return self._token.open(rw=True, attribute_mapper=attribute_mapper())
        except SessionCount:
            # The token has fewer sessions than we would like: go on with those that we have.
            with self._lock:
                self._opened -= 1
                self._limit = self._opened
            return None
        except PKCS11Error as error:
            with self._lock:
                self._opened -= 1
            raise TokenLostError from error

    def _wait(self) -> Any:
        try:
            return self._idle.get(timeout=WAIT_SECONDS)
        except Empty:
            if self.retired:
                raise NotBegunError from None
            raise unavailable("all sessions of the HSM are busy; try again") from None

    def drain(self, clock: Clock, seconds: float) -> bool:
        """Wait until no call is in flight. May be called again after False, and then goes on."""
        self.retired = True
        deadline = clock.monotonic() + seconds
        while len(self._drained) < self._opened:
            try:
                session = self._idle.get(timeout=max(0.0, deadline - clock.monotonic()))
            except Empty:
                return False
            self._drained.append(session)
        return True

    def resume(self) -> None:
        """After a `drain` in vain: hand sessions out again."""
        self.retired = False
        while self._drained:
            self._idle.put(self._drained.pop())
