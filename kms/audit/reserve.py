"""Space on disk, taken before it is needed.

A segment asks the file system for its next MiB ahead of writing (fallocate(2) with FALLOC_FL_KEEP_SIZE), so
that a full disk is met before an operation acts, not between its commit and its record. Python has no binding
for that flag; where the file system has none either, writes simply find out for themselves.
"""

from __future__ import annotations

import ctypes
import errno
import os

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
