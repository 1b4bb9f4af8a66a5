"""The latest lines of the operator log of all processes of a server, for those who watch (sys/monitor).

A ring of places in memory that all processes share. A writer takes the next place under a lock that dies with it
(a POSIX record lock on the same memory file), so a process that is killed here holds up nobody. Readers take no lock
and leave no trace: each has its own mark, looks when it likes, and is told how many lines it has missed. So a slow
one costs nobody anything, and memory does not grow with their number.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from dataclasses import dataclass
from typing import Final

PLACES: Final = 512
"""Lines that are kept; who is further behind has lost the older ones."""
LINE_BYTES: Final = 8192
"""Of a line; what is longer is not kept and counts as missed."""

_COUNT = struct.Struct("<Q")  # lines written so far
_HEAD = struct.Struct(
    "<QIB"
)  # number of the line in this place (from 1; 0 while it is written), length, rank
_PLACE: Final = _HEAD.size + LINE_BYTES


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it was written, and how grave it is (an index of `kms.oplog.LEVELS`)."""

    text: bytes
    rank: int


class Recent:
    """The ring. Keeps nothing until `share`. Safe to use from several threads and processes."""

    def __init__(self) -> None:
        self._file = -1
        self._page: mmap.mmap | None = None
        self._threads = threading.RLock()
        # A thread of the parent may hold the lock at the instant of the fork; the child has none.
        os.register_at_fork(after_in_child=self._new_thread_lock)

    def _new_thread_lock(self) -> None:
        self._threads = threading.RLock()

    def share(self) -> None:
        """Begin to keep lines, where children see them; before the first fork."""
        size = _COUNT.size + PLACES * _PLACE
        self._file = os.memfd_create("keystead-log", os.MFD_CLOEXEC)
        os.ftruncate(self._file, size)
        self._page = mmap.mmap(self._file, size)

    @property
    def kept(self) -> bool:
        """Whether lines are kept."""
        return self._page is not None

    def put(self, text: bytes, rank: int) -> None:
        """Keep one line; the oldest makes room."""
        page = self._page
        if page is None:
            return
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                number = _count(page) + 1
                at = _place(number)
                # Killed in between, the place holds no line, and the next writer uses it again.
                _HEAD.pack_into(page, at, 0, 0, 0)
                if len(text) <= LINE_BYTES:
                    page[at + _HEAD.size : at + _HEAD.size + len(text)] = text
                    _HEAD.pack_into(page, at, number, len(text), rank)
                _COUNT.pack_into(page, 0, number)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def mark(self) -> int:
        """Where somebody begins who wants what comes from now on."""
        return _count(self._page) if self._page is not None else 0

    def since(self, mark: int, limit: int) -> tuple[list[Line], int, int]:
        """The next lines, at most `limit`.

        Returns:
            (the lines, the mark to go on from, how many were lost between).
        """
        page = self._page
        if page is None:
            return [], mark, 0
        newest = _count(page)
        first = max(mark + 1, newest - PLACES + 1)
        lost = first - mark - 1
        last = min(newest, first + limit - 1)
        lines = []
        for number in range(first, last + 1):
            line = _line(page, number)
            if line is None:
                lost += 1
            else:
                lines.append(line)
        return lines, max(last, first - 1), lost


def _count(page: mmap.mmap) -> int:
    return int(_COUNT.unpack_from(page, 0)[0])


def _place(number: int) -> int:
    return _COUNT.size + (number % PLACES) * _PLACE


def _line(page: mmap.mmap, number: int) -> Line | None:
    """The line of this number; None when its place has been used again, or is being written."""
    at = _place(number)
    head = _HEAD.unpack_from(page, at)
    text = page[at + _HEAD.size : at + _HEAD.size + min(head[1], LINE_BYTES)]
    # Looked at twice: a writer marks the place before it touches the text.
    if head[0] != number or _HEAD.unpack_from(page, at) != head:
        return None
    return Line(text, head[2])


RECENT = Recent()
