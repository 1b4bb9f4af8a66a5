"""Threads for calls that wait for a disk or an HSM, with the shortest way there and back.

An executor and its two futures cost more than many of the calls. Here a call is one entry in a queue, and
answers come back to the event loop in bunches: whoever finishes first wakes it, and those that finish before
it has looked are taken along.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from kms.http.vault.route import Rendered

Work = Callable[[], Rendered]
Done = Callable[[Rendered], None]


class Crew:
    """The threads of one worker. Made and used on its event loop only.

    Args:
        size: how many threads.
        loop: where answers are delivered.
    """

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._answers: deque[tuple[Done, Rendered]] = deque()
        self._woken = False  # the loop is going to look
        self._threads = [
            threading.Thread(target=self._serve, name=f"direct-{number}") for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work, done: Done) -> None:
        """Have `work`, which never raises, done by the next free thread; `done` is called on the event loop."""
        self._calls.put((work, done))

    def close(self) -> None:
        """Wait for the calls under way. What is still queued is done first."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            work, done = call
            self._answers.append((done, work()))
            # After the append: a look that has begun either sees the answer or has cleared the mark before.
            if not self._woken:
                self._woken = True
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._answers:
            done, answer = self._answers.popleft()
            done(answer)
