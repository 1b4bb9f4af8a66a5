"""Forking, and ending what was forked, in one place each.

Between fork and the child's own code only these things happen: it dies with its parent, leaves the
terminal's process group (Ctrl-C is for the supervisor, which stops the others in order), unblocks
signals, and never returns into the parent's code.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

from kms.clock import Clock
from kms.errors import KmsError
from kms.oplog import Contained, OperatorLog
from kms.server import hardening

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
FAILED = 1
CRASHED = 70
_POLL_SECONDS = 0.02


def fork(role: str, main: Callable[[], int]) -> int:
    """Run `main` in a child; its return value is the exit code. Returns the child's pid.

    KmsError becomes a line of the operator log and exit code 1; anything unexpected 70.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = CRASHED
    try:
        hardening.die_with(parent)
        hardening.undumpable()
        os.setpgid(0, 0)
        for number in SIGNALS - {signal.SIGCHLD}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = _run(role, main)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _run(role: str, main: Callable[[], int]) -> int:
    log = OperatorLog(role=role)
    code = CRASHED
    with Contained(log, "process_crashed"):
        try:
            code = main()
        except KmsError as error:
            log.failure("process_cannot_start", error)
            code = FAILED
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return code


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that is gone. `code` is negative for a signal."""

    pid: int
    code: int


def reap() -> list[Ended]:
    """All children that have ended since the last call."""
    ended: list[Ended] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append(Ended(pid, os.waitstatus_to_exitcode(status)))


def end(pid: int, clock: Clock, seconds: float, number: signal.Signals = signal.SIGTERM) -> Ended | None:
    """Ask a child to end, wait, and kill it when it does not. None when it was gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return None
    deadline = clock.monotonic() + seconds
    killed = False
    while True:
        try:
            gone, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if gone:
            return Ended(pid, os.waitstatus_to_exitcode(status))
        if not killed and clock.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            killed = True
        clock.sleep(_POLL_SECONDS)
