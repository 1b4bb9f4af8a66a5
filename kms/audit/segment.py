"""One segment: the append-only file of one worker process.

The process holds a lock (flock) on the file for as long as it lives, so that recovery knows a dead writer from
a slow one without trusting process ids. Not safe for use from several threads at once: the recorder locks.

A write either puts a whole line into the file or leaves no trace: after a failed or short write the file is
cut back to its last whole line before anything else is appended.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path

from kms.audit.control import Closed, Control, Frame, Opened, Recovered, Torn, encode_control, line_hash
from kms.audit.layout import FILE_MODE, Layout, sync_folder
from kms.audit.merkle import CompactRange
from kms.audit.record import encode_record
from kms.audit.reserve import AHEAD, Reserve, allocate
from kms.errors import ErrorKind, KmsError

FORMAT = 1


# write(2) without letting go of the interpreter: into the page cache it takes five microseconds, and to hand the
# interpreter to another thread and wait for it again, twenty times that.
_libc_write = ctypes.PyDLL(None, use_errno=True).write
_libc_write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
_libc_write.restype = ctypes.c_ssize_t


def _write(fd: int, data: bytes) -> int:
    """As os.write. Raises OSError."""
    written: int = _libc_write(fd, data, len(data))
    if written < 0:
        number = ctypes.get_errno()
        if number == errno.EINTR:
            return _write(fd, data)
        raise OSError(number, os.strerror(number))
    return written


class Segment:
    """An open segment. Use `create`, or `adopt` for one whose writer died.

    Attributes:
        seq: number of the next record.
        n: number of the next control line.
        pending: records that no frame covers yet.
        dirty: bytes were written since the last `sync`.
    """

    def __init__(self, path: Path, fd: int, size: int, reserve: Reserve | None = None) -> None:
        self.id = path.stem
        self.path = path
        self.seq = 0
        self.n = 0
        self.prev = ""
        self.tree = CompactRange()
        self.dirty = False
        self._fd = fd
        self._size = size
        self._reserved = 0
        self._torn = False
        self._lost = False
        self._reserve = reserve

    @classmethod
    def create(cls, layout: Layout, segment_id: str) -> Segment:
        """Make an empty, locked file, durably. `begin` writes its first line.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): the folder cannot take it.
        """
        path = layout.segment(segment_id)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        try:
            layout.make()
            fd = os.open(path, flags, FILE_MODE)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync_folder(layout.segments)
        except OSError as error:
            raise unavailable(error) from error
        return cls(path, fd, 0, Reserve(layout))

    @property
    def pending(self) -> int:
        return self.tree.size

    def begin(self, origin: str, wall: float, mono: float) -> None:
        """Write the first line and sync it."""
        self._control(
            Opened(segment=self.id, n=0, origin=origin, format=FORMAT, pid=os.getpid(), wall=wall, mono=mono)
        )
        self.sync()

    def ensure_room(self, *, urgent: bool = False) -> None:
        """Make sure that the next MiB can be written, so that a full disk is met before anything acts.

        Args:
            urgent: the record is of an operation that may mend a full disk; gives up the reserve for it.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): there is no room.
        """
        if self._size + AHEAD <= self._reserved:
            return
        try:
            taken = allocate(self._fd, self._size, 2 * AHEAD)
        except OSError as error:
            if urgent and self._reserve is not None and self._reserve.release():
                self.ensure_room()
                return
            raise unavailable(error) from error
        # Where the file system cannot reserve, writes find out for themselves.
        self._reserved = self._size + 2 * AHEAD if taken else 1 << 62

    def append(
        self, event: bytes, wall: float, mono: float, *, tx: str = "", late: bool = False
    ) -> tuple[int, bytes]:
        """Write one record with write(2). Returns its number and leaf.

        Raises:
            KmsError(AUDIT_UNAVAILABLE): nothing was recorded; the number will be used again.
        """
        seq = self.seq
        leaf, line = encode_record(self.id, seq, wall, mono, event, tx=tx, late=late)
        self._put(line)
        self.tree.push(leaf)
        self.seq = seq + 1
        return seq, leaf

    def frame(self, wall: float, by: str = "worker") -> bool:
        """Close off the pending records. Returns whether there were any. Not durable before `sync`."""
        count = self.tree.size
        if not count:
            return False
        self._control(
            Frame(
                segment=self.id,
                n=self.n,
                first=self.seq - count,
                count=count,
                root=self.tree.root().hex(),
                prev=self.prev,
                wall=wall,
                by=by,
            )
        )
        self.tree = CompactRange()
        return True

    def recovered(self, torn: tuple[Torn, ...], framed: int, appended: int, wall: float) -> None:
        """State what recovery found here."""
        self._control(
            Recovered(
                segment=self.id,
                n=self.n,
                torn=torn,
                framed=framed,
                appended=appended,
                prev=self.prev,
                wall=wall,
            )
        )

    def sync(self) -> None:
        """Make what was written durable (fdatasync). Raises KmsError(AUDIT_UNAVAILABLE)."""
        self.dirty = False
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # After a failed sync the kernel may have dropped the pages and report success next time, so
            # this file can never again promise anything: the process must end, and recovery look.
            self._lost = True
            raise unavailable(error) from error

    def close(self, wall: float, *, clean: bool = True) -> None:
        """Frame what is pending, write the last line, sync, give the reserved space and the lock back."""
        try:
            self.frame(wall, by="worker" if clean else "recovery")
            self._control(
                Closed(segment=self.id, n=self.n, records=self.seq, prev=self.prev, wall=wall, clean=clean)
            )
            os.ftruncate(self._fd, self._size)
            self.sync()
        except OSError as error:
            raise unavailable(error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as a dying process would: no last line."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _control(self, control: Control) -> None:
        line = encode_control(control)
        self._put(line + b"\n")
        self.n += 1
        self.prev = line_hash(line)

    def _put(self, data: bytes) -> None:
        if self._fd < 0:
            raise KmsError(ErrorKind.AUDIT_UNAVAILABLE, "the audit segment is closed")
        if self._lost:
            raise KmsError(ErrorKind.AUDIT_UNAVAILABLE, "the audit segment could not be synced; restart")
        try:
            if self._torn:
                os.ftruncate(self._fd, self._size)
                self._torn = False
            written = _write(self._fd, data)
        except OSError as error:
            self._torn = True
            raise unavailable(error) from error
        if written != len(data):
            # The file system took a part: disk full, or a size limit. The part must not stay in front of the
            # next line; if cutting it off fails as well, the next write tries again before it appends.
            self._torn = True
            raise KmsError(ErrorKind.AUDIT_UNAVAILABLE, "the audit segment took only a part of a record")
        self._size += written
        self.dirty = True


def unavailable(error: OSError) -> KmsError:
    """The log cannot take a record; nothing of the request may happen or leave."""
    reason = error.strerror or type(error).__name__
    return KmsError(ErrorKind.AUDIT_UNAVAILABLE, f"the audit log cannot be written: {reason}")
