"""The logs before this one, whose keys were lost: every file is as the first lines of this log say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kms.audit.control import UNREADABLE, Succession
from kms.audit.layout import Layout
from kms.audit.verify.report import BadError

_CHUNK = 1 << 20


class ManifestLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a log that was put aside; `file` is relative to its folder."""

    file: str
    bytes: int
    sha256: str


def encode_manifest(lines: Iterable[ManifestLine]) -> bytes:
    """The manifest: one JSON object a line."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def check_before(layout: Layout, before: Succession | None, notes: list[str]) -> None:
    """Check each file of the log that this one goes on for. Raises BadError, OSError.

    What is inside them is verified on its own: the folder of an earlier log is an audit folder.
    """
    if before is None:
        return
    number = before.epoch - 1
    path, folder = layout.manifest(number), layout.epoch(number)
    place = f"epochs/{number}.manifest"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadError(place, "missing; the log begins by naming it") from None
    if hashlib.sha256(data).hexdigest() != before.manifest:
        raise BadError(place, "not the bytes that the log begins by naming")
    lines = _decode(data, place)
    for line in lines.values():
        _check(folder / line.file, line, number)
    for found in sorted(folder.rglob("*")):
        name = found.relative_to(folder).as_posix()
        if not found.is_dir() and name not in lines:
            raise BadError(f"epochs/{number}/{name}", f"a file that {place} does not name")
    _check_names(layout, number)
    notes.append(
        f"goes on for {before.origin}, whose key was lost, signed to size {before.size}; {before.records} records"
        f" lie behind that; every file of it is as this log says; verify epochs/{number} by itself"
    )
    if before.finding:
        notes.append(f"when it was put aside, it did not verify: {before.finding}")


def _check_names(layout: Layout, newest: int) -> None:
    if not layout.epochs.is_dir():
        return  # this is an earlier log itself
    known = {name for number in range(1, newest + 1) for name in (str(number), f"{number}.manifest")}
    for path in sorted(layout.epochs.iterdir()):
        if path.name not in known and path.suffix != ".tmp":
            raise BadError(f"epochs/{path.name}", "a file that does not belong here")


_decode_line = msgspec.json.Decoder(ManifestLine).decode


def _decode(data: bytes, place: str) -> dict[str, ManifestLine]:
    try:
        lines = [_decode_line(line) for line in data.splitlines()]
    except UNREADABLE as error:
        raise BadError(place, f"not a manifest: {error}") from None
    return {line.file: line for line in lines}


def _check(path: Path, line: ManifestLine, number: int) -> None:
    name = f"epochs/{number}/{line.file}"
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        raise BadError(name, "missing; the manifest names it") from None
    if digest.hexdigest() != line.sha256:
        raise BadError(name, "not the bytes that the manifest names")
