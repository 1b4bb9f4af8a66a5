"""What every process of the server does to itself, so that its memory does not leave it.

No core dumps, no ptrace by others of the same user, no memory in /proc for them, private files by
default, and death with the parent. Linux only; elsewhere the calls are refused and the start says so.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from kms.errors import ErrorKind, KmsError

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
UMASK = 0o077

# Variables that gunicorn, a2wsgi or OpenSSL would act on: nobody configures Keystead through them.
_AMBIENT = (
    "GUNICORN_CMD_ARGS",
    "GUNICORN_PID",
    "GUNICORN_FD",
    "FORWARDED_ALLOW_IPS",
    "LISTEN_FDS",
    "LISTEN_PID",
    "SCRIPT_NAME",
    "WEB_CONCURRENCY",
    "SSLKEYLOGFILE",
    "PROMETHEUS_MULTIPROC_DIR",
    "prometheus_multiproc_dir",
)


def harden() -> None:
    """Once in the first process; limits and umask are inherited, `undumpable` is repeated after forks.

    Raises:
        KmsError(INTERNAL): the system refuses.
    """
    os.umask(UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name in _AMBIENT:
        os.environ.pop(name, None)
    undumpable()


def undumpable() -> None:
    """PR_SET_DUMPABLE=0: no core, no ptrace attach, /proc/self owned by root."""
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with(parent: int) -> None:
    """Be killed when the parent dies; at once if it is dead already.

    SIGKILL and not a polite signal: a worker that outlives its server would answer from caches that
    nobody invalidates, and what it has written is safe by then (decision 14).
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise KmsError(ErrorKind.INTERNAL, f"prctl({option}) failed: {reason}; Keystead needs Linux")
