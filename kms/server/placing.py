"""One worker for each processor: then each keeps to its own.

A worker has several threads, of which Python runs one at a time. Left to itself the kernel spreads them over all
processors, and each time the interpreter passes from one thread to another what the caches held is on the wrong side.
Where there are fewer workers than processors, or more, the kernel knows better, and nothing is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


def free(workers: int, taken: Iterable[int | None]) -> int | None:
    """The processor for the next worker: one that no living worker has. None when workers are not to be placed.

    Args:
        workers: how many there are to be.
        taken: processors of those that live.
    """
    allowed = os.sched_getaffinity(0)
    if workers != len(allowed):
        return None
    return min(allowed - set(taken), default=None)


def stay(processor: int | None) -> None:
    """Run this process, and every thread that it starts from now on, on one processor."""
    if processor is not None:
        os.sched_setaffinity(0, {processor})
