"""A copy of the audit folder that fits a copy of the database, while both are being written.

A record of a change is written to its segment after the commit, and leaves reach the log's file before it. So
what belongs to one state of the database is, in the instant in which nothing can commit: each segment that the
database knows, as long as it is then; the leaves as far as the stored head; the checkpoints up to that head.
Committed events that have not reached their segment are rows of the outbox, and recovery appends them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kms.audit.layout import FILE_MODE, Layout, sync_folder, write_all
from kms.audit.ledger import read_note
from kms.audit.note import read_checkpoint
from kms.audit.segment import unavailable
from kms.audit.store import LOG, LOG_KEY, SEGMENTS
from kms.errors import KmsError
from kms.tables import Reader

_CHUNK = 1 << 20
_FILED = frozenset({"live", "closed"})


class Extent(msgspec.Struct, frozen=True):
    """How much of each file belongs to the copy: path below the audit folder -> bytes.

    Args:
        files: as said.
        size: leaves of the stored head.
        torn: names in torn/; a recovery that ran meanwhile shows in them.
    """

    files: dict[str, int]
    size: int
    torn: frozenset[str]


def measure(folder: Path, reader: Reader) -> Extent:
    """Note the extent. Call while no transaction can commit; stats each segment, reads none.

    Raises:
        KmsError(AUDIT_UNAVAILABLE): I/O.
    """
    layout = Layout(folder)
    head = reader.get(LOG, LOG_KEY)
    files: dict[str, int] = {}
    try:
        for state in sorted(_FILED):
            for row in reader.find(SEGMENTS, {"state": state}):
                path = layout.segment(row.key)
                if path.exists():  # else it never got its first line; recovery says so
                    files[_name(layout, path)] = path.stat().st_size
        if head is not None:
            files[_name(layout, layout.leaves)] = head.value.leaves_bytes
        for path in (layout.checkpoints, layout.keys):
            if path.exists():
                files[_name(layout, path)] = path.stat().st_size
        for path in _settled(layout):
            files[_name(layout, path)] = path.stat().st_size
    except OSError as error:
        raise unavailable(error) from error
    return Extent(files, head.value.size if head is not None else 0, _torn(layout))


def copy(folder: Path, target: Path, extent: Extent) -> bool:
    """Copy what `measure` noted into the empty folder `target`. Durable when it returns.

    Returns:
        False when a recovery put torn lines aside meanwhile: take a new copy, of database and log.

    Raises:
        KmsError(AUDIT_UNAVAILABLE): I/O.
    """
    layout, copied = Layout(folder), Layout(target)
    try:
        copied.make()
        for name, length in extent.files.items():
            (target / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _copy(folder / name, target / name, length)
        _trim_checkpoints(copied, extent.size)
        for path in (*(one for one in target.rglob("*") if one.is_dir()), target):
            sync_folder(path)
        return _torn(layout) == extent.torn
    except OSError as error:
        raise unavailable(error) from error


def _settled(layout: Layout) -> Iterator[Path]:
    """Files that never change: what was put aside, and the logs of earlier epochs."""
    yield from (path for path in sorted(layout.torn.glob("*")) if path.is_file())
    yield from (path for path in sorted(layout.epochs.rglob("*")) if path.is_file())


def _torn(layout: Layout) -> frozenset[str]:
    return frozenset(path.name for path in layout.torn.glob("*"))


def _name(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.folder).as_posix()


def _copy(source: Path, target: Path, length: int) -> None:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        with source.open("rb") as file:
            while length and (chunk := file.read(min(length, _CHUNK))):
                write_all(fd, chunk)
                length -= len(chunk)
        os.fsync(fd)
    finally:
        os.close(fd)


def _trim_checkpoints(copied: Layout, size: int) -> None:
    """Keep whole lines up to the stored head; the newest of them is the published checkpoint."""
    if not copied.checkpoints.exists():
        return
    data = copied.checkpoints.read_bytes()
    kept, newest = 0, b""
    for line in data.splitlines(keepends=True):
        try:
            note = read_note(line[:-1]) if line.endswith(b"\n") else b""
        except KmsError:
            break  # the verifier will name it
        if not note or read_checkpoint(note).size > size:
            break
        kept, newest = kept + len(line), note
    with copied.checkpoints.open("r+b") as file:
        file.truncate(kept)
        os.fsync(file.fileno())
    if newest:
        copied.checkpoint.touch(mode=FILE_MODE)
        copied.checkpoint.write_bytes(newest)
        with copied.checkpoint.open("rb") as file:
            os.fsync(file.fileno())
