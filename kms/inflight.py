"""Requests that are being served right now, by any worker, for sys/in-flight-req.

A page of memory that all processes of a server share, in fixed places. Each process writes into its own only, so
there is nothing to lock; a reader that meets a place half written sees a wrong line once, and never a wrong length.
Calls that a worker answers in one step on its event loop are not here: nobody could see them.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from dataclasses import dataclass
from typing import Final

PROCESSES: Final = 64
PLACES: Final = 48
"""Per process; more at once than these are served, and not shown."""
_TEXT: Final = 400
_HEAD = struct.Struct("<dIHHHH")  # start, pid, lengths of id, method, peer, path
_PLACE: Final = _HEAD.size + _TEXT
_OWNERS: Final = struct.Struct("<I")
_FIRST: Final = PROCESSES * _OWNERS.size


@dataclass(frozen=True)
class Running:
    """One request.

    Args:
        started: Unix seconds.
    """

    request_id: str
    method: str
    peer: str
    path: str
    started: float


class InFlight:
    """The page. Make it before the first fork. Safe to use from several threads."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _FIRST + PROCESSES * PLACES * _PLACE)
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._row = -1
        self._free: list[int] = []

    def begin(self, request_id: str, method: str, peer: str, path: str, now: float) -> int:
        """Show a request from now on; give `end` what this returns."""
        place = self._take()
        if place < 0:
            return place
        parts = [text.encode()[:limit] for text, limit in ((request_id, 40), (method, 8), (peer, 48))]
        parts.append(path.encode()[: _TEXT - sum(map(len, parts))])
        text = b"".join(parts)
        self._page[place + _HEAD.size : place + _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._page, place, now, os.getpid(), *map(len, parts))
        return place

    def end(self, place: int) -> None:
        """It is answered."""
        if place < 0:
            return
        _HEAD.pack_into(self._page, place, 0.0, 0, 0, 0, 0, 0)
        with self._lock:
            self._free.append(place)

    def _take(self) -> int:
        with self._lock:
            if self._row < 0 and not self._claim():
                return -1
            return self._free.pop() if self._free else -1

    def _claim(self) -> bool:
        """A row of places for this process: its pid's, or the next one whose owner is gone."""
        pid = os.getpid()
        for step in range(PROCESSES):
            row = (pid + step) % PROCESSES
            (owner,) = _OWNERS.unpack_from(self._page, row * _OWNERS.size)
            if owner and owner != pid and _lives(owner):
                continue
            _OWNERS.pack_into(self._page, row * _OWNERS.size, pid)
            self._row = row
            first = _FIRST + row * PLACES * _PLACE
            self._free = [first + index * _PLACE for index in range(PLACES)]
            for place in self._free:
                _HEAD.pack_into(self._page, place, 0.0, 0, 0, 0, 0, 0)
            return True
        return False

    def running(self) -> list[Running]:
        """All of them, the oldest first."""
        found = []
        for place in range(_FIRST, len(self._page), _PLACE):
            started, pid, *lengths = _HEAD.unpack_from(self._page, place)
            if not pid or sum(lengths) > _TEXT or not _lives(pid):
                continue
            at, parts = place + _HEAD.size, []
            for length in lengths:
                parts.append(self._page[at : at + length].decode(errors="replace"))
                at += length
            found.append(Running(parts[0], parts[1], parts[2], parts[3], started))
        return sorted(found, key=lambda one: one.started)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
