"""The operator log: one JSON object per line on standard error. For running the service, not evidence.

It never holds a secret, a token, or a request's payload: callers name every field, exceptions are
written as type and place without their message (a message may quote input), and `KmsError` details
are sentences that are public by contract. Evidence of what callers did lives in `kms.audit`.
"""

from __future__ import annotations

import mmap
import os
import sys
import traceback
from types import TracebackType
from typing import Literal, Self

import msgspec

from kms.clock import Clock, SystemClock, rfc3339
from kms.errors import KmsError
from kms.recent import RECENT

Level = Literal["info", "warning", "error"]
LOGGERS = ("cli", "jobs", "start", "supervisor", "worker")
"""Roles of processes, which is what loggers are called."""
LEVELS = ("trace", "debug", "info", "warn", "error")
"""From the most to the least that is written."""
_WRITTEN = {"info": 2, "warning": 3, "error": 4}
_USUAL = LEVELS.index("info")
MAX_FRAMES = 24

_encoder = msgspec.json.Encoder()


class Thresholds:
    """What each logger writes at least, the same in all processes that were forked after `share`.

    One byte a logger in shared memory: a write is seen by all at once, and there is nothing to lock. Forgotten at
    the end of the server.
    """

    def __init__(self) -> None:
        self._bytes: bytearray | mmap.mmap = bytearray([_USUAL] * len(LOGGERS))

    def share(self) -> None:
        """Put them where children see them; before the first fork."""
        page = mmap.mmap(-1, mmap.PAGESIZE)
        page[: len(LOGGERS)] = bytes(self._bytes[: len(LOGGERS)])
        self._bytes = page

    def get(self, name: str) -> str:
        """A logger's level."""
        return LEVELS[self._bytes[LOGGERS.index(name)]]

    def set(self, name: str, level: str) -> None:
        """From now on `name` writes lines of `level` and above, in every process."""
        self._bytes[LOGGERS.index(name)] = LEVELS.index(level)

    def reset(self, name: str) -> None:
        """As at the start."""
        self._bytes[LOGGERS.index(name)] = _USUAL

    def writes(self, name: str, level: Level) -> bool:
        """Whether a line is to be written."""
        return name not in LOGGERS or _WRITTEN[level] >= self._bytes[LOGGERS.index(name)]


THRESHOLDS = Thresholds()


class OperatorLog:
    """Writes lines. Safe from several threads: a line is one write(2) of at most a few kilobytes."""

    def __init__(self, clock: Clock | None = None, role: str = "", descriptor: int | None = None) -> None:
        self._clock = clock or SystemClock()
        self._role = role
        self._descriptor = descriptor

    def write(self, level: Level, event: str, **fields: str | float | list[str]) -> None:
        """One line. `event` is a stable name ("worker_started"), `fields` are public facts."""
        written = THRESHOLDS.writes(self._role, level)
        if not (written or RECENT.kept):
            return
        record = {
            "time": rfc3339(self._clock.now()),
            "level": level,
            "event": event,
            "process": self._role,
            "pid": os.getpid(),
            **fields,
        }
        line = _encoder.encode(record)
        if written:
            self._emit(line + b"\n")
        # Whoever watches has a level of their own (sys/monitor).
        RECENT.put(line, _WRITTEN[level])

    def failure(self, event: str, error: BaseException, **fields: str | float) -> None:
        """An exception: type and stack, and the sentence only where it is public by contract."""
        detail = error.detail if isinstance(error, KmsError) else ""
        stack = [
            f"{frame.filename.rsplit('/', 3)[-1]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
        ]
        self.write("error", event, error=type(error).__name__, detail=detail, stack=stack, **fields)

    def _emit(self, line: bytes) -> None:
        descriptor = sys.stderr.fileno() if self._descriptor is None else self._descriptor
        try:
            os.write(descriptor, line)
        except OSError:
            return  # nobody is left to tell that nobody listens


class Contained:
    """Keeps an unexpected exception inside a block: logged, remembered, not raised.

    The last resort of a request and of a background task; nowhere else. `with Contained(...) as c:`
    and afterwards `c.failure` is the exception or None.
    """

    __slots__ = ("_event", "_fields", "_log", "failure")

    def __init__(self, log: OperatorLog, event: str, **fields: str | float) -> None:
        self._log = log
        self._event = event
        self._fields = fields
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.failure = error
        self._log.failure(self._event, error, **self._fields)
        return True
