"""Where things lie in the audit folder, and how its files are opened.

    DIR/segments/<segment id>.jsonl   one per worker process
    DIR/log/leaves.jsonl              the leaves of the tree, in order
    DIR/log/checkpoints.jsonl         every checkpoint that was signed, in order: {"note": "..."}
    DIR/checkpoint                    the newest of them, as a C2SP signed note
    DIR/log.pub                       the C2SP verifier keys of the log, one a line
    DIR/torn/<source>-<offset>-<n>.bin  bytes that were no whole line when a process died

    DIR/epochs/<n>/                   an earlier log, whose key was lost with its HSM: a folder like DIR
    DIR/epochs/<n>.manifest           SHA-256, bytes and name of each file of it
    DIR/reserve                       16 MiB of nothing, for the day the disk is full
    DIR/checkpoint.tmp, torn.tmp      scratch: a file on its way to its name by rename(2)

Folders are 0700, files 0600. Nothing else belongs there; the verifier names what it does not know.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

SEGMENT_ID = re.compile(r"[0-9a-f]{32}\Z")
TORN_NAME = re.compile(r"(?P<source>leaves|checkpoints|[0-9a-f]{32})-[0-9]+-[0-9]+\.bin\Z")

FILE_MODE = 0o600
FOLDER_MODE = 0o700


class Layout:
    """Paths below one audit folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments = folder / "segments"
        self.log = folder / "log"
        self.torn = folder / "torn"
        self.leaves = self.log / "leaves.jsonl"
        self.checkpoints = self.log / "checkpoints.jsonl"
        self.checkpoint = folder / "checkpoint"
        self.scratch = folder / "checkpoint.tmp"
        self.scratch_torn = folder / "torn.tmp"
        self.keys = folder / "log.pub"
        self.reserve = folder / "reserve"
        self.epochs = folder / "epochs"

    def segment(self, segment_id: str) -> Path:
        """The file of one segment."""
        return self.segments / f"{segment_id}.jsonl"

    def epoch(self, number: int) -> Path:
        """The folder of an earlier log."""
        return self._epochs() / str(number)

    def manifest(self, number: int) -> Path:
        """What an earlier log consists of."""
        return self._epochs() / f"{number}.manifest"

    def _epochs(self) -> Path:
        """Seen from an earlier log, the still earlier ones lie beside it."""
        return self.folder.parent if self.folder.parent.name == "epochs" else self.epochs

    def make(self) -> None:
        """Create the folders that are missing."""
        for folder in (self.folder, self.segments, self.log, self.torn):
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make creations and renames in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes, scratch: Path) -> None:
    """Replace `path` so that a reader sees the old bytes or the new, also after a power cut."""
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    scratch.rename(path)
    sync_folder(path.parent)


def write_all(fd: int, data: bytes) -> None:
    """write(2) until everything is written. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
