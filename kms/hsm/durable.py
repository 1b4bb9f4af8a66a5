"""SoftHSM acknowledges a stored object before it is on the disk.

It writes its files without fsync: a killed process loses nothing (H4), a power failure could lose a key whose
id the database already knows. So after each generation the token's folder is synced here. A hardware token does this itself.
"""

from __future__ import annotations

import os
from pathlib import Path

from kms.hsm.module import unavailable


class TokenFolder:
    """The files of SoftHSM's tokens, if the configuration names them; else nothing is done."""

    def __init__(self, softhsm2_conf: Path | None) -> None:
        self._conf = softhsm2_conf
        self._synced: set[tuple[Path, int]] = set()

    def sync(self) -> None:
        """Return when everything that SoftHSM wrote is on the disk.

        Raises:
            KmsError(HSM_UNAVAILABLE): the disk does not take it.
        """
        folder = self._folder()
        if folder is None:
            return
        try:
            for path in (*folder.rglob("*"), folder):
                self._sync(path)
        except OSError as error:
            raise unavailable(f"the token's folder cannot be synced: {error.strerror}") from error

    def _folder(self) -> Path | None:
        if self._conf is None or not self._conf.exists():
            return None
        for line in self._conf.read_text("utf-8").splitlines():
            name, equals, value = line.partition("=")
            if equals and name.strip() == "directories.tokendir":
                return Path(value.strip())
        return None

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
