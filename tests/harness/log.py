"""Reads the audit folder as anybody can: plain JSON lines, without a line of the service's own code."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One record of a segment."""

    segment: str
    seq: int
    id: str
    phase: str
    operation: str
    resource: str
    outcome: str
    subject: dict[str, Any]
    event: dict[str, Any]

    @property
    def closed_well(self) -> bool:
        """Whether it says that a change happened: done, or the good outcome of an intent."""
        return self.phase in {"done", "outcome"} and self.outcome == "ok"


class Reader:
    """Reads the records of a folder again and again; of a segment, only the lines that came since."""

    def __init__(self, audit: Path) -> None:
        self._audit = audit
        self._read: dict[Path, tuple[int, list[Entry]]] = {}

    def entries(self) -> list[Entry]:
        """All whole records of all segments."""
        found = []
        for path in sorted((self._audit / "segments").glob("*.jsonl")):
            offset, known = self._read.get(path, (0, []))
            with path.open("rb") as file:
                file.seek(offset)
                new = file.read().rstrip(b"\0")
            end = new.rfind(b"\n") + 1
            known += [entry for line in new[:end].splitlines() if (entry := _entry(line)) is not None]
            self._read[path] = (offset + end, known)
            found += known
        return found


def entries(audit: Path) -> list[Entry]:
    """All whole records of all segments."""
    return Reader(audit).entries()


def _entry(line: bytes) -> Entry | None:
    parsed = json.loads(line)
    event = parsed.get("event")
    if event is None:
        return None
    return Entry(
        parsed["segment"],
        parsed["seq"],
        event["id"],
        event["phase"],
        event["operation"],
        event.get("resource", ""),
        event.get("outcome", "ok"),
        event.get("subject", {}),
        event,
    )


def checkpoint(audit: Path) -> tuple[int, str]:
    """Size and root of the newest checkpoint; (0, "") when there is none yet."""
    path = audit / "checkpoint"
    if not path.exists():
        return 0, ""
    _origin, size, root = path.read_text().split("\n")[:3]
    return int(size), root


def roots(audit: Path, sizes: list[int]) -> dict[int, str]:
    """The RFC 6962 root over the first `size` leaves for each size asked for, computed here from the leaves."""
    peaks: list[tuple[int, bytes]] = []
    found: dict[int, str] = {}
    wanted = set(sizes)
    path = audit / "log" / "leaves.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for count, line in enumerate(lines, 1):
        height, value = 0, hashlib.sha256(b"\0" + line).digest()
        while peaks and peaks[-1][0] == height:
            value = hashlib.sha256(b"\1" + peaks.pop()[1] + value).digest()
            height += 1
        peaks.append((height, value))
        if count in wanted:
            root = peaks[-1][1]
            for _, left in reversed(peaks[:-1]):
                root = hashlib.sha256(b"\1" + left + root).digest()
            found[count] = base64.b64encode(root).decode()
    return found
