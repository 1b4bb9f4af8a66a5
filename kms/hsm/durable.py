"""Guarding the files of a SoftHSM token against SoftHSM.

Seen under strace with SoftHSM 2.6.1:
- it acknowledges a stored object before it is on the disk (no fsync). A killed process loses nothing (H4), a power
  failure could lose a key whose id the database already knows. So after each generation the folder is synced;
- each C_Login rewrites token.object: it truncates the file, lets go of its lock, then writes. A process that
  initialises at that moment sees no token, and a process killed at that moment leaves none. So Keystead's processes
  initialise and log in one after the other, under a flock on the folder, and keep a copy of token.object,
  token.backup, from which an emptied one is put back.

A hardware token needs none of this; without a SoftHSM configuration nothing here does anything.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kms.clock import Clock
from kms.hsm.module import unavailable

TURN_SECONDS: Final = 10.0
_STEP_SECONDS: Final = 0.01
_NAME: Final = "token.object"
_BACKUP: Final = "token.backup"  # SoftHSM reads only names that end in .object


class TokenFolder:
    """The folder that a softhsm2.conf names, with a folder in it for each token."""

    def __init__(self, softhsm2_conf: Path | None) -> None:
        self._conf = softhsm2_conf
        self._synced: set[tuple[Path, int]] = set()

    @property
    def path(self) -> Path | None:
        """directories.tokendir; None when there is none to guard."""
        if self._conf is None or not self._conf.is_file():
            return None
        for line in self._conf.read_text("utf-8").splitlines():
            name, equals, value = line.partition("=")
            if equals and name.strip() == "directories.tokendir" and Path(value.strip()).is_dir():
                return Path(value.strip())
        return None

    @contextmanager
    def exclusive(self, clock: Clock) -> Iterator[None]:
        """No other Keystead process initialises or logs in meanwhile; an emptied token is whole again.

        Raises:
            KmsError(HSM_UNAVAILABLE): another process holds on for ten seconds.
        """
        folder = self.path
        if folder is None:
            yield
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(descriptor, clock)
            _repair(folder)
            yield
        finally:
            os.close(descriptor)

    def logged_in(self) -> None:
        """token.object was read and written whole just now: keep a copy. Only inside `exclusive`.

        Raises:
            KmsError(HSM_UNAVAILABLE): the disk does not take it.
        """
        folder = self.path
        for original in folder.glob(f"*/{_NAME}") if folder is not None else ():
            backup = original.with_name(_BACKUP)
            try:
                content = original.read_bytes()
                if content and (not backup.exists() or backup.read_bytes() != content):
                    _replace(backup, content)
            except OSError as error:
                raise unavailable(f"cannot keep a copy of {original}: {error.strerror}") from error

    def sync(self) -> None:
        """Return when everything that SoftHSM wrote is on the disk.

        Raises:
            KmsError(HSM_UNAVAILABLE): the disk does not take it.
        """
        folder = self.path
        if folder is None:
            return
        try:
            for path in (*folder.rglob("*"), folder):
                self._sync(path)
        except OSError as error:
            raise unavailable(f"the token's folder cannot be synced: {error.strerror}") from error

    def _sync(self, path: Path) -> None:
        try:
            seen = (path, path.stat().st_mtime_ns)
            if seen in self._synced:
                return
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return  # another process destroyed the object meanwhile
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._synced.add(seen)


def _lock(descriptor: int, clock: Clock) -> None:
    deadline = clock.monotonic() + TURN_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() > deadline:
                raise unavailable("another process has been logging in to the token for too long") from None
            clock.sleep(_STEP_SECONDS)
        else:
            return


def _repair(folder: Path) -> None:
    for backup in folder.glob(f"*/{_BACKUP}"):
        original = backup.with_name(_NAME)
        if not original.exists() or original.stat().st_size == 0:
            _replace(original, backup.read_bytes())


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
