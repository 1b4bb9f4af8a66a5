"""The transcript: one line of JSON for each fact, each with the hash of the line before.

A line is canonical: members sorted by name, no spaces, UTF-8, one line feed at its end. `n` counts from 0,
`prev` is the SHA-256 of the line before without its line feed (64 zeros at first), `at` is RFC 3339. A line
is on the disk before what it announces is done. The last whole line counts; what a power cut left
behind it is cut off when the ceremony goes on, and that is a line too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kms.audit.layout import sync_folder, write_all
from kms.clock import Clock, rfc3339
from kms.errors import ErrorKind, KmsError, integrity

NAME = "transcript.jsonl"
MAX_BYTES = 16 * 1024 * 1024
FIRST = "0" * 64

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode

Entry = Mapping[str, Any]


def read(path: Path) -> tuple[list[Entry], int]:
    """All whole lines, their chain checked, and how many bytes of an unfinished one follow.

    Raises:
        KmsError(INTEGRITY): a line is not canonical, out of order, or not the one its successor names.
    """
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        raise integrity(f"{path} is larger than {MAX_BYTES} bytes")
    whole, _, rest = data.rpartition(b"\n")
    entries: list[Entry] = []
    before = FIRST
    for number, line in enumerate(whole.split(b"\n") if whole else ()):
        try:
            entry = _decode(line)
        except msgspec.DecodeError:
            raise integrity(f"{path}, line {number + 1}, is not JSON") from None
        if _encode(entry) != line or entry.get("n") != number or not isinstance(entry.get("kind"), str):
            raise integrity(f"{path}, line {number + 1}, is not a line of a transcript")
        if entry.get("prev") != before:
            raise integrity(f"{path}, line {number + 1}, does not follow the line before it")
        before = hashlib.sha256(line).hexdigest()
        entries.append(entry)
    return entries, len(rest)


class Transcript:
    """An open transcript. One process at a time writes it.

    Args:
        path: of the file; made if it is missing.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self.torn = 0
        self.entries: list[Entry] = []
        fresh = not path.exists()
        if not fresh:
            self.entries, self.torn = read(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if self.torn:
            os.ftruncate(self._file, path.stat().st_size - self.torn)
        if fresh:
            sync_folder(path.parent)

    def append(self, kind: str, **facts: Any) -> Entry:
        """Add a line; on the disk when this returns.

        Raises:
            KmsError(STORAGE_UNAVAILABLE): the disk does not take it.
        """
        before = hashlib.sha256(_encode(self.entries[-1])).hexdigest() if self.entries else FIRST
        number = len(self.entries)
        entry = {**facts, "kind": kind, "n": number, "prev": before, "at": rfc3339(self._clock.now())}
        line = _encode(entry) + b"\n"
        try:
            write_all(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            text = f"cannot write {self.path}: {error.strerror}"
            raise KmsError(ErrorKind.STORAGE_UNAVAILABLE, text) from error
        self.entries.append(_decode(line))
        return self.entries[-1]

    def find(self, kind: str, step: int | None = None) -> Iterator[Entry]:
        """Lines of a kind, of one step if it is given."""
        return found(self.entries, kind, step)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


def found(entries: list[Entry], kind: str, step: int | None = None) -> Iterator[Entry]:
    """Lines of a kind, of one step if it is given."""
    return (entry for entry in entries if entry["kind"] == kind and step in (None, entry.get("step")))
