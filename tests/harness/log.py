"""Reads the audit folder as anybody can: plain JSON lines, without a line of the service's own code."""

from __future__ import annotations

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


def entries(audit: Path) -> list[Entry]:
    """All whole records of all segments."""
    found = []
    for path in sorted((audit / "segments").glob("*.jsonl")):
        for line in path.read_bytes().rstrip(b"\0").split(b"\n")[:-1]:
            parsed = json.loads(line)
            event = parsed.get("event")
            if event is None:
                continue
            found.append(
                Entry(
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
            )
    return found


def checkpoint(audit: Path) -> tuple[int, str]:
    """Size and root of the newest checkpoint; (0, "") when there is none yet."""
    path = audit / "checkpoint"
    if not path.exists():
        return 0, ""
    _origin, size, root = path.read_text().split("\n")[:3]
    return int(size), root
