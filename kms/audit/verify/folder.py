"""Each file of the folder is known, and what was put aside is what the log says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from kms.audit.layout import SEGMENT_ID, TORN_NAME, Layout
from kms.audit.verify.leaves import LogView
from kms.audit.verify.report import BadError


def newer_segments(layout: Layout, view: LogView) -> list[str]:
    """Segments in the folder that the log does not hold yet."""
    found = sorted(path.name.removesuffix(".jsonl") for path in layout.segments.glob("*.jsonl"))
    for segment in found:
        if not SEGMENT_ID.match(segment) or segment in view.void:
            raise BadError(f"segments/{segment}.jsonl", "the log knows no such segment")
    return [segment for segment in found if segment not in view.segments]


def check_files(layout: Layout, view: LogView, named_later: AbstractSet[str], notes: list[str]) -> None:
    """Raise BadError for a file that nothing accounts for, or that is not as the log names it."""
    expected = {
        layout.leaves,
        layout.checkpoints,
        layout.checkpoint,
        layout.keys,
        layout.reserve,
        layout.scratch,
        layout.scratch_torn,
    }
    for path in _files(layout.folder, succeeds=view.before is not None):
        name = path.relative_to(layout.folder).as_posix()
        if path in expected or (path.parent == layout.segments and path.suffix == ".jsonl"):
            continue
        if path.parent != layout.torn or not TORN_NAME.match(path.name):
            raise BadError(name, "a file that does not belong here")
        if path.name not in view.torn:
            _newer_torn(path.name, name, view, named_later, notes)
    if layout.reserve.exists() and layout.reserve.read_bytes().strip(b"\0"):
        raise BadError("reserve", "holds something; it only keeps room")
    for torn, place in view.torn.values():
        _check_torn(layout.torn / torn.name, torn.bytes, torn.sha256, place)


def _newer_torn(file: str, name: str, view: LogView, named_later: AbstractSet[str], notes: list[str]) -> None:
    match = TORN_NAME.match(file)
    source = match["source"] if match else ""
    segment = view.segments.get(source)
    if source in view.void or (segment is not None and segment.closed):
        raise BadError(name, "put aside, but no line of the log names it")
    if file not in named_later:
        notes.append(f"{name} was put aside; the log will name it at the next start")


def _check_torn(path: Path, size: int, sha256: str, place: str) -> None:
    name = f"torn/{path.name}"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadError(name, f"missing; {place} names it") from None
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise BadError(name, f"not the bytes that {place} names")


def _files(folder: Path, *, succeeds: bool) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name in ("segments", "log", "torn"):
            yield from sorted(path.iterdir())
        elif path.is_dir() and not path.is_symlink() and path.name == "epochs" and succeeds:
            continue  # earlier logs: their manifest says what belongs there
        else:
            yield path
