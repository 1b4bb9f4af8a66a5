"""Calls that may hang: made in threads of their own, so that the caller can be answered in time.

A call into a PKCS#11 module cannot be interrupted. A network HSM that does not answer would hold an event loop or a
pool thread for as long as TCP likes. So where a deadline is set ([hsm] deadline_seconds), each call is made in a daemon
thread, and the caller waits no longer than that. What hangs is left alone: it is never made a second time, and its
answer, should it come, is thrown away. Costs a change of threads per call, some 30 us; without a deadline nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

MAX_THREADS: Final = 32
IDLE_SECONDS: Final = 30.0
SLOW_FACTOR: Final = 12  # generating an RSA pair, a self-test


class HungError(Exception):
    """The call is still under way, or there are too many such already. What it does is not known."""


class _Task(Generic[T]):
    """One call and its outcome."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.done = threading.Lock()
        self.done.acquire()
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001  # handed to the caller, who waits for it
            self.error = error
        finally:
            self.done.release()


class Runner:
    """Threads for one gate, made as they are needed. Thread safe."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._tasks: SimpleQueue[_Task[Any]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._free = 0

    def run(self, work: Callable[[], T], *, slow: bool = False) -> T:
        """What `work` returns or raises.

        Raises:
            HungError: not done within the deadline.
        """
        task = _Task(work)
        with self._lock:
            if self._free > 0:
                self._free -= 1
            elif self._threads < MAX_THREADS:
                self._threads += 1
                threading.Thread(target=self._serve, name="hsm-call", daemon=True).start()
            else:
                raise HungError
        self._tasks.put(task)
        if not task.done.acquire(timeout=self._seconds * (SLOW_FACTOR if slow else 1)):
            raise HungError
        if task.error is not None:
            raise task.error
        return task.result

    def _serve(self) -> None:
        while True:
            try:
                task = self._tasks.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    # A caller may have counted on this thread since: then its task is about to come.
                    if self._free > 0:
                        self._free -= 1
                        self._threads -= 1
                        return
                continue
            task.run()
            with self._lock:
                self._free += 1
