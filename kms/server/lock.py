"""One server per storage folder, held by flock.

The lock belongs to the open file, which all processes of the server inherit: it is free again when the
last of them is gone, however they died.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from kms.clock import Clock
from kms.errors import KmsError, invalid

LOCK_NAME = "lock"
WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.05


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can enter, or check that it is one.

    Raises:
        KmsError(INVALID): others can enter it, or it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise invalid(f"cannot make the folder {folder}: {error.strerror}") from None
    if status.st_mode & 0o077:
        raise invalid(f"{folder} can be entered by others; run: chmod 700 {folder}")


def hold(folder: Path, clock: Clock, wait_seconds: float = WAIT_SECONDS) -> int:
    """Take the lock of a storage folder; returns the open file, to be inherited by every child.

    Waits a little: the processes of a server that was just killed need a moment to be gone.

    Raises:
        KmsError(INVALID): another server has it.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise invalid(f"cannot open {path}: {error.strerror}") from None
    deadline = clock.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() >= deadline:
                os.close(descriptor)
                raise _taken(folder) from None
            clock.sleep(_POLL_SECONDS)
        else:
            return descriptor


def _taken(folder: Path) -> KmsError:
    return invalid(
        f"another Keystead server is running on {folder}; stop it first (only one may use a storage folder)"
    )
