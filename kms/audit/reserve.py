"""Space on disk, taken before it is needed.

A segment asks the file system for its next MiB ahead of writing (fallocate(2) with FALLOC_FL_KEEP_SIZE), so
that a full disk is met before an operation acts, not between its commit and its record. Python has no binding
for that flag; where the file system has none either, writes simply find out for themselves.

Beside that, DIR/reserve holds 16 MiB that are given back to the file system when an operation that may mend a
full disk needs a record and finds no room; the sequencer takes them again when there is plenty.
"""

from __future__ import annotations

import ctypes
import errno
import os

from kms.audit.layout import FILE_MODE, Layout

RESERVE_BYTES = 16 * 1024 * 1024
AHEAD = 1024 * 1024

_KEEP_SIZE = 1
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENODEV})


def allocate(fd: int, offset: int, length: int) -> bool:
    """Reserve blocks without changing the file's size.

    Returns:
        False when the file system cannot.

    Raises:
        OSError: it can, and has no room (ENOSPC, EDQUOT) or failed (EIO).
    """
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
    except AttributeError:
        return False
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(fd, _KEEP_SIZE, offset, length) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code))


class Reserve:
    """The file DIR/reserve."""

    def __init__(self, layout: Layout, size: int = RESERVE_BYTES) -> None:
        self._path = layout.reserve
        self._folder = layout.folder
        self._size = size

    def hold(self) -> bool:
        """Take the space if it is not held. Returns whether it is; a disk without room is not an error here."""
        try:
            if self._path.exists():
                return True
            space = os.statvfs(self._folder)
            if space.f_bavail * space.f_frsize < 4 * self._size:
                return False  # what is left belongs to the records
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                os.posix_fallocate(fd, 0, self._size)
            finally:
                os.close(fd)
        except OSError:
            self._path.unlink(missing_ok=True)
            return False
        return True

    def release(self) -> bool:
        """Give the space back. Returns whether there was any to give."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
