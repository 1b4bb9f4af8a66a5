"""What a verification found, and how it is said."""

from __future__ import annotations

import msgspec

from kms.clock import rfc3339

EXIT_PINNED = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_PINNED = 3


class Finding(msgspec.Struct, frozen=True):
    """The first bad place: a file of the folder with its line, and what is wrong there."""

    place: str
    what: str


class Gap(msgspec.Struct, frozen=True):
    """A time in which, as the log itself states, nobody gathered its frames. Unix seconds."""

    since: float
    until: float
    why: str


class Report(msgspec.Struct, kw_only=True):
    """The result of one verification.

    Args:
        failure: None when everything up to the checkpoint holds.
        pinned: whether the key came from a trust file, not from the folder under test.
        origin, fingerprint: of the log and of the key that signed it.
        size, root: of the newest signed checkpoint.
        segments, records: covered by it.
        uncovered: whole records newer than it; nothing vouches for them yet.
        complete_to: wall time of the newest covered leaf; 0 when nothing is covered.
        gaps: times without a sequencer.
        unknown: intents whose end could not be found out.
        notes: what an operator should know and nothing is wrong with.
    """

    failure: Finding | None = None
    pinned: bool = False
    origin: str = ""
    fingerprint: str = ""
    size: int = 0
    root: str = ""
    segments: int = 0
    records: int = 0
    uncovered: int = 0
    complete_to: float = 0.0
    gaps: list[Gap] = []
    unknown: list[str] = []
    notes: list[str] = []

    @property
    def ok(self) -> bool:
        return self.failure is None

    @property
    def exit_code(self) -> int:
        """0: holds, key pinned. 3: holds, key taken from the folder itself. 1: does not hold."""
        if self.failure is not None:
            return EXIT_FAILED
        return EXIT_PINNED if self.pinned else EXIT_NOT_PINNED

    def lines(self) -> list[str]:
        """The report as text."""
        text = [f"log {self.origin or '(unknown)'}, key {self.fingerprint or '(none)'}"]
        if not self.pinned:
            text.append("key not pinned: compare the fingerprint, or give --trust FILE")
        if self.failure is not None:
            return [*text, f"FAILED at {self.failure.place}: {self.failure.what}"]
        text.append(
            f"{self.records} records in {self.segments} segments, {self.size} leaves, root {self.root}"
        )
        text.append(f"complete to {rfc3339(self.complete_to)}; not witnessed")
        if self.uncovered:
            text.append(f"{self.uncovered} newer records are not covered by a checkpoint yet")
        text += [f"gap {rfc3339(gap.since)} to {rfc3339(gap.until)}: {gap.why}" for gap in self.gaps]
        text += [f"unknown outcome: {event}" for event in self.unknown]
        text += [f"note: {note}" for note in self.notes]
        text.append("VERIFIED")
        return text


class BadError(Exception):
    """Verification ends here."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")
        self.finding = Finding(place, what)
