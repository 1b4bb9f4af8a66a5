"""Taking turns to write. SQLite has one writer at a time and lets the others sleep and try again, longer each
time: under load the unlucky ones wait for seconds. A lock of the kernel wakes the next one at once.

It orders writers and nothing else: correctness stays with BEGIN IMMEDIATE, whose own wait is the second
line for writers that do not know this lock.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

LOCK_NAME: Final = "writers.lock"


class Turn:
    """The queue of writing processes; threads of one process queue before it (kms.storage.group).

    The kernel gives a process's lock back when it dies, so a killed writer blocks nobody.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> None:
        """Wait for the turn among the processes. Not for two threads of one process at once."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def try_take(self) -> bool:
        """Take the turn if nobody has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def give_back(self) -> None:
        """Let the next process write."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
