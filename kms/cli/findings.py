"""One line of `keystead doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How serious it is. Only BAD changes the exit code."""

    GOOD = "ok"
    WARN = "note"
    BAD = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """A check and what it found; `mend` says what to do about it."""

    check: str
    verdict: Verdict
    detail: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """For --format json."""
        return {
            "check": self.check,
            "verdict": self.verdict.value,
            "detail": self.detail,
            "mend": self.mend,
        }
