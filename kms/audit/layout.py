"""Where things lie in the audit folder, and how its files are opened.

    DIR/segments/<segment id>.jsonl   one per worker process
    DIR/log/leaves.jsonl              the leaves of the tree, in order
    DIR/log/checkpoints.jsonl         every checkpoint that was signed, in order: {"note": "..."}
    DIR/checkpoint                    the newest of them, as a C2SP signed note
    DIR/log.pub                       the C2SP verifier keys of the log, one a line
    DIR/torn/<source>-<offset>-<n>.bin  bytes that were no whole line when a process died

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

    def segment(self, segment_id: str) -> Path:
        """The file of one segment."""
        return self.segments / f"{segment_id}.jsonl"

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
