"""The files of the log: its leaves, its checkpoints, its keys. One process at a time holds them (flock)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from kms.audit.control import UNREADABLE, Start, Torn, decode_control
from kms.audit.layout import FILE_MODE, Layout, sync_folder, write_all, write_whole
from kms.audit.merkle import CompactRange, leaf_hash
from kms.audit.note import Checkpoint, LogKey, open_checkpoint
from kms.audit.segment import unavailable
from kms.errors import ErrorKind, KmsError, integrity

_START = b'{"control":"start"'
_RECENT_BYTES = 64 * 1024


class NoteLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of log/checkpoints.jsonl."""

    note: str


_decode_note = msgspec.json.Decoder(NoteLine).decode


class Replay(msgspec.Struct):
    """What the leaves give when they are hashed again: the tree, roots at sizes asked for, torn files named."""

    tree: CompactRange
    roots: dict[int, bytes]
    named: set[str]


class Ledger:
    """Exclusive access to the log's files. Use `open`; `close` gives the lock back."""

    def __init__(self, layout: Layout, leaves: int, notes: int) -> None:
        self._layout = layout
        self._leaves = leaves
        self._notes = notes
        self._whole = 0  # bytes of the history's whole lines
        self._newest = 0  # size of its last checkpoint

    @classmethod
    def open(cls, layout: Layout) -> Ledger:
        """Lock the files, making them if they are missing.

        Raises:
            KmsError(CONFLICT): another process holds them. KmsError(AUDIT_UNAVAILABLE): I/O.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            layout.make()
            leaves = os.open(layout.leaves, flags, FILE_MODE)
        except OSError as error:
            raise unavailable(error) from error
        try:
            fcntl.flock(leaves, fcntl.LOCK_EX | fcntl.LOCK_NB)
            notes = os.open(layout.checkpoints, flags, FILE_MODE)
            sync_folder(layout.log)
        except BlockingIOError:
            os.close(leaves)
            raise KmsError(ErrorKind.CONFLICT, "another process sequences this audit log") from None
        except OSError as error:
            os.close(leaves)
            raise unavailable(error) from error
        return cls(layout, leaves, notes)

    def close(self) -> None:
        """Give the lock back."""
        for fd in (self._notes, self._leaves):
            if fd >= 0:
                os.close(fd)
        self._leaves = self._notes = -1

    # -- leaves -------------------------------------------------------------------------------------

    def length(self) -> int:
        """Bytes in log/leaves.jsonl."""
        return os.fstat(self._leaves).st_size

    def cut(self, length: int) -> None:
        """Drop leaves that no stored checkpoint covers: they are made again from the segments."""
        with _io():
            os.ftruncate(self._leaves, length)

    def append(self, at: int, lines: Sequence[bytes]) -> int:
        """Write leaves at byte `at`, the length as of the last stored checkpoint; returns the new length.

        Durable when it returns.
        """
        data = b"".join(line + b"\n" for line in lines)
        with _io():
            if self.length() != at:
                os.ftruncate(self._leaves, at)
            write_all(self._leaves, data)
            os.fdatasync(self._leaves)
        return at + len(data)

    def replay(self, length: int, sizes: Sequence[int]) -> Replay:
        """Hash the first `length` bytes again. About 2 us a leaf."""
        wanted = frozenset(sizes)
        found = Replay(CompactRange(), {}, set())
        left = length
        with _io(), self._layout.leaves.open("rb") as file:
            while left > 0:
                line = file.readline(left)
                if not line.endswith(b"\n"):
                    raise integrity(
                        f"log/leaves.jsonl does not end a line at byte {length}, as the database says"
                    )
                left -= len(line)
                found.tree.push(leaf_hash(line[:-1]))
                if found.tree.size in wanted:
                    found.roots[found.tree.size] = found.tree.root()
                if line.startswith(_START):
                    start = decode_control(line[:-1])
                    if isinstance(start, Start):
                        found.named |= {torn.name for torn in start.torn}
        return found

    def save_torn(self, leaves: int, notes: int, named: AbstractSet[str]) -> tuple[Torn, ...]:
        """Move what lies beyond these lengths to torn/; returns all such files that no leaf names yet."""
        with _io():
            keep_torn(self._layout, "leaves", self._leaves, leaves)
            keep_torn(self._layout, "checkpoints", self._notes, notes)
            paths = [*self._layout.torn.glob("leaves-*.bin"), *self._layout.torn.glob("checkpoints-*.bin")]
            return tuple(
                describe_torn(path, path.read_bytes()) for path in sorted(paths) if path.name not in named
            )

    # -- checkpoints --------------------------------------------------------------------------------

    def publish(self, note: bytes, size: int) -> None:
        """Add a signed note to the history, then make it the current one. Durable when it returns.

        Repeatable: a note of the size that the history ends with is not added again.
        """
        with _io():
            if size != self._newest:
                line = note_line(note)
                os.ftruncate(self._notes, self._whole)
                write_all(self._notes, line)
                os.fdatasync(self._notes)
                self._whole += len(line)
                self._newest = size
            write_whole(self._layout.checkpoint, note, self._layout.scratch)

    def current(self, keys: Sequence[LogKey]) -> Checkpoint | None:
        """The published checkpoint. Raises KmsError(INTEGRITY) if it is not ours."""
        with _io():
            try:
                note = self._layout.checkpoint.read_bytes()
            except FileNotFoundError:
                return None
        return open_checkpoint(note, keys)

    def recent(self, keys: Sequence[LogKey]) -> tuple[list[Checkpoint], int]:
        """The newest signed checkpoints in order, and the length of the history's whole lines.

        Reads 64 KiB, so that a start does not take longer as the log ages; `verify` reads everything.
        """
        with _io():
            size = os.fstat(self._notes).st_size
            start = max(0, size - _RECENT_BYTES)
            data = os.pread(self._notes, size - start, start)
        first = data.find(b"\n") + 1 if start else 0
        whole = data.rfind(b"\n") + 1
        notes = [open_checkpoint(read_note(line), keys) for line in data[first:whole].splitlines()]
        self._whole = start + whole
        self._newest = notes[-1].size if notes else 0
        return notes, self._whole

    def write_keys(self, keys: Sequence[LogKey]) -> None:
        """Write log.pub if it does not say this already."""
        text = "".join(f"{key.line()}\n" for key in keys).encode()
        with _io():
            if not self._layout.keys.exists() or self._layout.keys.read_bytes() != text:
                write_whole(self._layout.keys, text, self._layout.scratch)


def note_line(note: bytes) -> bytes:
    """The one spelling of a note in the history, newline included."""
    return json.dumps({"note": note.decode()}, separators=(",", ":")).encode("ascii") + b"\n"


def read_note(line: bytes) -> bytes:
    """The note in one line of log/checkpoints.jsonl. Raises KmsError(INTEGRITY)."""
    try:
        return _decode_note(line).note.encode()
    except UNREADABLE as error:
        raise integrity(f"not a line of the checkpoint history: {error}") from None


def keep_torn(layout: Layout, source: str, fd: int, length: int) -> None:
    """Copy the bytes beyond `length` of an open file to torn/, durably, then cut them off.

    Safe to repeat: killed in between, the same bytes get the same name again.
    """
    size = os.fstat(fd).st_size
    if size <= length:
        return
    data = os.pread(fd, size - length, length)
    for number in itertools.count():
        path = layout.torn / f"{source}-{length}-{number}.bin"
        if not path.exists():
            write_whole(path, data, layout.scratch_torn)
            break
        if path.read_bytes() == data:
            break
    os.ftruncate(fd, length)
    os.fsync(fd)


def describe_torn(path: Path, data: bytes) -> Torn:
    """How control lines name a file in torn/."""
    return Torn(name=path.name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@contextlib.contextmanager
def _io() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable(error) from error
