"""Calls that wait for the same disk, taken together by one thread.

A commit costs as much as the call around it, so calls share commits. With a thread for each call, much of what that
saves is lost again: Python runs one thread of a process at a time, and passes the interpreter on at each system call.
Here the thread of an event loop takes calls one after the other, up to their transactions; then it runs the
transactions' blocks one after the other, has somebody else wait for the one commit, and meanwhile begins other calls.
What a call does, and in which order, is the same as in a thread of its own: only where it would wait it is put aside
(each is a greenlet).

Rules for what runs here (`Runs.TOGETHER`): no lock is held where a transaction begins; what belongs to one call stands
in a ContextVar, not in a threading.local; and what takes more than a few milliseconds goes through `aside`, before or
after the block of a transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Final, Protocol, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")
Step = Callable[[], object]

MOST: Final = 32
"""Calls that share a commit at most: bounds how long the first of them waits."""


class Loop(Protocol):
    """What is needed of an event loop; asyncio's is one."""

    def call_soon(self, callback: Step, /) -> object: ...
    def call_soon_threadsafe(self, callback: Step, /) -> object: ...


class Commits(Protocol):
    """What calls wait for together. One group of calls has it at a time, and every `open` is followed by one `shut`."""

    def try_open(self) -> bool:
        """Begin, if that takes no wait and meets no trouble; whether it did."""
        ...

    def open(self) -> None:
        """Begin; waits until it is this process's turn. May raise, and then it has not begun."""
        ...

    def shut(self) -> None:
        """End, for everybody; waits for the disk. What became of it is told to each call by other means."""
        ...


class _Here(threading.local):
    gathering: Gathering | None = None


_here = _Here()


def gathering() -> Gathering | None:
    """The gathering that takes the current call together with others; None where calls have a thread to themselves."""
    here = _here.gathering
    return here if here is not None and here.inside() else None


def aside(work: Callable[[], T]) -> T:
    """Do something slow: elsewhere, if this thread has other calls to go on with."""
    here = gathering()
    return work() if here is None else here.aside(work)


class Gathering:
    """The calls of one event loop, on whose thread it is made and used.

    Args:
        helpers: threads for `aside`.
    """

    def __init__(self, loop: Loop, helpers: int) -> None:
        self._loop = loop
        self._main = getcurrent()
        self._steps: SimpleQueue[Step] = SimpleQueue()  # from other threads
        self._entering: list[greenlet] = []
        self._resting: list[greenlet] = []
        self._commits: Commits | None = None
        self._failure: BaseException | None = None  # of what the call that goes on now has waited for
        self._block: greenlet | None = None  # the call whose block runs now
        self._planned = False  # a group will be opened soon
        self._seen = 0  # calls that waited for it a turn ago
        self._busy = False  # a group is open, or about to be
        self._away = 0  # calls whose slow part is done elsewhere
        self._helpers = ThreadPoolExecutor(helpers, thread_name_prefix="aside")
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        _here.gathering = self

    def start(self, call: Callable[[], T], later: Callable[[T], None]) -> T | None:
        """Begin `call`, which never raises. Returns its result if it waits for nothing; else `later` is given it."""
        ended: list[T] = []
        waited = False

        def run() -> None:
            result = call()
            if waited:
                later(result)
            else:
                ended.append(result)

        greenlet(run, self._main).switch()
        waited = True
        return ended[0] if ended else None

    def close(self) -> None:
        """Wait for the calls under way."""
        while self._entering or self._busy or self._away:
            if self._entering and not self._busy:
                self._open()
            else:
                self._steps.get()()
        _here.gathering = None
        self._helpers.shutdown()
        self._committer.shutdown()

    # -- for the calls ----------------------------------------------------------------------------

    def inside(self) -> bool:
        """Whether it is one of the calls that asks."""
        return getcurrent() is not self._main

    def enter(self, commits: Commits) -> BaseException | None:
        """Before a transaction: returns when its block is to run, or with the reason why it cannot."""
        self._commits = commits
        self._entering.append(getcurrent())
        self._plan()
        return self._wait()

    def rest(self) -> BaseException | None:
        """After the block: returns when the group was shut; with what `shut` raised, if it did."""
        self._block = None
        self._resting.append(getcurrent())
        return self._wait()

    def aside(self, work: Callable[[], T]) -> T:
        """Do something slow in another thread, while other calls go on here.

        In a transaction's block it is done at once: a block that was left half way would be committed half.
        """
        if self._block is getcurrent():
            return work()
        call, future = getcurrent(), self._helpers.submit(work)
        future.add_done_callback(lambda _: self._tell(call.switch))
        self._away += 1
        self._main.switch()
        self._away -= 1
        return future.result()

    def _wait(self) -> BaseException | None:
        self._main.switch()
        return self._failure

    # -- groups -----------------------------------------------------------------------------------

    def _plan(self) -> None:
        if not self._planned and not self._busy:
            self._planned = True
            self._seen = 0
            self._loop.call_soon(self._open_planned)

    def _open_planned(self) -> None:
        """Open a group, once a turn of the loop has brought no further call: those that come share the commit."""
        if self._seen < len(self._entering) < MOST and not self._busy:
            self._seen = len(self._entering)
            self._loop.call_soon(self._open_planned)
            return
        self._planned = False
        if self._entering and not self._busy:
            self._open()

    def _open(self) -> None:
        if self._commits is None:
            raise AssertionError("a call waits for no commit")
        self._busy, opened = True, False
        try:
            opened = self._commits.try_open()
        finally:
            # Whatever is the matter, it is met again there, and told to those who wait.
            if not opened:
                self._elsewhere(self._commits.open, self._opened)
        if opened:
            self._opened(None)

    def _opened(self, failure: BaseException | None) -> None:
        entering, self._entering = self._entering[:MOST], self._entering[MOST:]
        for call in entering:
            self._block = call if failure is None else None
            self._go_on([call], failure)
            self._block = None
        if failure is None and self._commits is not None:
            self._elsewhere(self._commits.shut, self._shut)
        else:
            self._free()

    def _shut(self, failure: BaseException | None) -> None:
        resting, self._resting = self._resting, []
        self._free()
        self._go_on(resting, failure)

    def _free(self) -> None:
        self._busy = False
        if self._entering:
            self._plan()

    def _go_on(self, calls: list[greenlet], failure: BaseException | None) -> None:
        for call in calls:
            self._failure = failure
            call.switch()

    # -- other threads ----------------------------------------------------------------------------

    def _elsewhere(self, work: Callable[[], None], then: Callable[[BaseException | None], None]) -> None:
        def tell(done: Future[None]) -> None:
            self._tell(lambda: then(done.exception()))

        self._committer.submit(work).add_done_callback(tell)

    def _tell(self, step: Step) -> None:
        self._steps.put(step)
        self._loop.call_soon_threadsafe(self._told)

    def _told(self) -> None:
        while True:
            try:
                step = self._steps.get_nowait()
            except Empty:
                return
            step()
