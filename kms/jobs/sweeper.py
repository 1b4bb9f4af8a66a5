"""The hourly sweep, beside the other periodic work: with many rows it takes minutes, and the log cannot wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError

EVERY_SECONDS = 3600.0
FIRST_AFTER_SECONDS = 5.0  # a start has other things to do, and has looked at what decides about rights
_PORTION_ROWS, _REST_SECONDS = 50, 0.005  # some 6 ms of work, then the others' turn

Breathe = Callable[[], None]


class _EndedError(Exception):
    """The process ends."""


class Sweeper:
    """One per process; its thread begins with the first sweep.

    Args:
        compare: reads every row and calls what it is given after each; raises KmsError(INTEGRITY) for what it found.
    """

    def __init__(self, compare: Callable[[Breathe], None], clock: Clock) -> None:
        self._compare = compare
        self._clock = clock
        self._due_at = clock.monotonic() + FIRST_AFTER_SECONDS
        self._pool = ThreadPoolExecutor(1, "sweep")
        self._running: Future[None] | None = None
        self._ending = threading.Event()
        self._rows = 0

    def due(self) -> bool:
        """Whether a sweep should begin."""
        return self._running is None and self._clock.monotonic() >= self._due_at

    def begin(self) -> None:
        """Begin one, when it is `due`."""
        self._due_at = self._clock.monotonic() + EVERY_SECONDS
        self._running = self._pool.submit(self._work)

    def ended(self) -> bool:
        """Whether one has ended that nobody has asked about."""
        return self._running is not None and self._running.done()

    def take(self) -> None:
        """Ask about the one that has `ended`.

        Raises:
            KmsError(INTEGRITY): what it found.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def stop(self) -> None:
        """End at the next row and wait for that."""
        self._ending.set()
        self._pool.shutdown()

    def _work(self) -> None:
        try:
            self._compare(self._breathe)
        except _EndedError:
            return
        except KmsError as error:
            if error.kind is not ErrorKind.SEALED:  # it was sealed meanwhile
                raise

    def _breathe(self) -> None:
        self._rows += 1
        if self._rows % _PORTION_ROWS == 0 and self._ending.wait(_REST_SECONDS):
            raise _EndedError
