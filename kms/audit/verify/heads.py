"""The signed heads: the published checkpoint and the history of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kms.audit.layout import Layout
from kms.audit.ledger import note_line, read_note
from kms.audit.note import Checkpoint, LogKey, open_checkpoint
from kms.audit.verify.report import BadError
from kms.audit.verify.signing import Signing
from kms.errors import KmsError

CHECKPOINT = "checkpoint"
HISTORY = "log/checkpoints.jsonl"


class Heads(msgspec.Struct, frozen=True):
    """The newest signed head, and the roots that all of them claim: size -> (root, line in the history)."""

    newest: Checkpoint
    roots: dict[int, tuple[bytes, int]]


def read_heads(layout: Layout, signing: Signing, notes: list[str]) -> Heads:
    """Check every signature, and that sizes only grow.

    The published checkpoint is read on both sides of the history, so that a log that grows while it is read is
    told from one whose checkpoint was put back.
    """
    earlier = _published(layout)
    if earlier:
        _checked(earlier, signing.every(), CHECKPOINT)
    history = _history(layout, signing, notes)
    later = _published(layout)
    before, after = (_judged(note, signing, history) for note in (earlier, later))
    if not history:
        raise BadError(
            HISTORY, "no checkpoint was ever signed" if after is None else "the history is missing"
        )
    _compare(before, after, history)
    if after is None:
        notes.append("the only signed checkpoint was not published yet")
    newest = history[-1]
    return Heads(newest, {one.size: (one.root, line) for line, one in enumerate(history, 1)})


def _compare(before: Checkpoint | None, after: Checkpoint | None, history: list[Checkpoint]) -> None:
    newest = history[-1]
    if after is None:
        # Between the first line of the history and the first rename a process may have died.
        if len(history) > 1:
            raise BadError(CHECKPOINT, "missing")
        return
    if before is not None and before.size > newest.size:
        raise BadError(HISTORY, f"ends at size {newest.size}, but {before.size} has been published")
    # A kill between history and rename leaves the last but one published.
    if after.size <= newest.size and after not in history[-2:]:
        raise BadError(CHECKPOINT, f"size {after.size} is not the newest; {HISTORY} goes to {newest.size}")


def _published(layout: Layout) -> bytes:
    try:
        return layout.checkpoint.read_bytes()
    except FileNotFoundError:
        return b""


def _judged(note: bytes, signing: Signing, history: list[Checkpoint]) -> Checkpoint | None:
    return _open(note, signing, [one.size for one in history], CHECKPOINT) if note else None


def _history(layout: Layout, signing: Signing, notes: list[str]) -> list[Checkpoint]:
    history: list[Checkpoint] = []
    try:
        data = layout.checkpoints.read_bytes()
    except FileNotFoundError:
        return history
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        place = f"{HISTORY}:{number}"
        if not line.endswith(b"\n"):
            notes.append(f"{place} is being written, or torn")
            break
        checkpoint = _read_line(line[:-1], signing, [one.size for one in history[-1:]], place)
        if history and checkpoint.size <= history[-1].size:
            raise BadError(place, f"size {checkpoint.size} does not follow {history[-1].size}")
        history.append(checkpoint)
    return history


def _read_line(line: bytes, signing: Signing, sizes: Sequence[int], place: str) -> Checkpoint:
    try:
        note = read_note(line)
    except KmsError as error:
        raise BadError(place, error.detail) from None
    if line + b"\n" != note_line(note):
        raise BadError(place, "not written as the history is written")
    return _open(note, signing, sizes, place)


def _open(note: bytes, signing: Signing, sizes: Sequence[int], place: str) -> Checkpoint:
    """The checkpoint, if a key signed it that counts there. `sizes` are those of good ones, older or newer."""
    size = _checked(note, signing.every(), place).size
    covered = max((each for each in sizes if each < size), default=0)
    checkpoint = _checked(note, signing.keys(size, covered), place)
    if checkpoint.origin != signing.origin:
        raise BadError(place, f"it is of {checkpoint.origin}, not of {signing.origin}")
    return checkpoint


def _checked(note: bytes, keys: Sequence[LogKey], place: str) -> Checkpoint:
    try:
        return open_checkpoint(note, keys)
    except KmsError as error:
        raise BadError(place, error.detail) from None
