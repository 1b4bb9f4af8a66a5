"""The leaves of the tree: their roots, and the story that they tell."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

import msgspec

from kms.audit.control import (
    MAX_CONTROL_LINE,
    Control,
    Heartbeat,
    Log,
    Opened,
    Recovered,
    SegmentControl,
    SignerBegan,
    SignerEnded,
    Start,
    Stop,
    Succession,
    Torn,
    Void,
    decode_control,
)
from kms.audit.layout import Layout
from kms.audit.merkle import CompactRange, leaf_hash
from kms.audit.position import Position
from kms.audit.tail import follow
from kms.audit.verify.heads import HISTORY, Heads
from kms.audit.verify.report import BadError, Gap
from kms.errors import KmsError

LEAVES = "log/leaves.jsonl"
MAX_SILENCE_SECONDS = 120.0
_HASH = 32


class SegmentView(msgspec.Struct, kw_only=True):
    """What the log knows of one segment.

    Args:
        hashes: SHA-256 of each of its control lines, one after the other.
        line: where it was opened, in log/leaves.jsonl.
    """

    line: int
    position: Position = Position()
    hashes: bytearray = msgspec.field(default_factory=bytearray)
    closed: bool = False

    @property
    def count(self) -> int:
        return len(self.hashes) // _HASH

    def hash(self, n: int) -> bytes:
        """SHA-256 of control line `n`."""
        return bytes(self.hashes[n * _HASH : (n + 1) * _HASH])


class LogView(msgspec.Struct, kw_only=True):
    """The log as far as the newest signed checkpoint reaches."""

    segments: dict[str, SegmentView] = {}
    void: set[str] = set()
    torn: dict[str, tuple[Torn, str]] = {}  # name -> (description, place of the line that names it)
    gaps: list[Gap] = []
    wall: float = 0.0
    beat_wall: float = 0.0
    before: Succession | None = None


class LeafReader:
    """Reads log/leaves.jsonl once, in order, up to the newest checkpoint."""

    def __init__(self, layout: Layout, origin: str, heads: Heads, seen: dict[int, bytes]) -> None:
        self._layout = layout
        self._origin = origin
        self._heads = heads
        self._seen = seen
        self._tree = CompactRange()
        self._batch: list[bytes] = []  # lines since the last checkpoint that held
        self._fence = 0
        self._mono = 0.0
        self._last_wall = 0.0
        self._stopped = False
        self._signers: set[str] = set()
        self.view = LogView()

    def read(self) -> LogView:
        """Check everything. Raises BadError."""
        try:
            with self._layout.leaves.open("rb") as file:
                self._read(file)
        except FileNotFoundError:
            raise BadError(LEAVES, "missing") from None
        return self.view

    def _read(self, file: BinaryIO) -> None:
        while self._tree.size < self._heads.newest.size:
            line = file.readline(MAX_CONTROL_LINE + 1)
            number = self._tree.size + 1
            if not line.endswith(b"\n"):
                covered = self._heads.newest.size
                raise BadError(
                    f"{LEAVES}:{number}", f"missing; the signed checkpoint covers {covered} leaves"
                )
            self._batch.append(line[:-1])
            self._leaf(line[:-1], number)
            self._tree.push(leaf_hash(line[:-1]))
            self._check_root(number)

    def _leaf(self, line: bytes, number: int) -> None:
        try:
            control = decode_control(line)
            if isinstance(control, SegmentControl):
                self._segment_leaf(control, line, number)
            else:
                self._own_leaf(control, number)
        except KmsError as error:
            self._blame(number, error.detail)

    def _check_root(self, size: int) -> None:
        root = self._tree.root() if size in self._heads.roots or size in self._seen else b""
        if size in self._heads.roots:
            signed, line = self._heads.roots[size]
            if signed != root:
                self._blame(size, f"these leaves do not give the root signed in {HISTORY}:{line}", whole=True)
            self._batch = []
        if self._seen.get(size, root) != root:
            raise BadError(f"{LEAVES}:{size}", "these leaves do not give the root in the trust file")

    def _blame(self, number: int, what: str, *, whole: bool = False) -> None:
        """Name the first line since the last good checkpoint that its segment does not confirm.

        A changed line of a segment shows only when the next one refers to it, or at the next signed root.
        """
        first = number - len(self._batch) + 1
        for offset, line in enumerate(self._batch):
            if not self._confirmed(line):
                raise BadError(f"{LEAVES}:{first + offset}", f"changed: no segment has this line ({what})")
        place = f"{LEAVES}:{first}-{number}" if whole and first < number else f"{LEAVES}:{number}"
        raise BadError(place, what)

    def _confirmed(self, line: bytes) -> bool:
        try:
            control = decode_control(line)
        except KmsError:
            return False
        if not isinstance(control, SegmentControl):
            return True
        try:
            with self._layout.segment(control.segment).open("rb") as file:
                return any(candidate[:-1] == line for candidate in file)
        except OSError:
            return True  # the missing segment is named where segments are read

    # -- leaves of segments -------------------------------------------------------------------------

    def _segment_leaf(self, control: SegmentControl, line: bytes, number: int) -> None:
        views = self.view.segments
        if control.segment not in views:
            views[control.segment] = SegmentView(line=number)
        view = views[control.segment]
        view.position, view.closed = follow(control.segment, view.position, line, closed=view.closed)
        view.hashes += hashlib.sha256(line).digest()
        if isinstance(control, Opened) and control.origin != self._origin:
            raise BadError(f"{LEAVES}:{number}", f"a segment of another log, {control.origin}")
        if isinstance(control, Recovered):
            self._name_torn(control.torn, number)
        self.view.wall = max(self.view.wall, control.wall)

    def _name_torn(self, torn: tuple[Torn, ...], number: int) -> None:
        for one in torn:
            self.view.torn[one.name] = (one, f"{LEAVES}:{number}")

    # -- the sequencer's own leaves -----------------------------------------------------------------

    def _own_leaf(self, control: Control, number: int) -> None:
        place = f"{LEAVES}:{number}"
        if isinstance(control, Log) != (number == 1):
            raise BadError(place, "a log begins with its log line, and has one only")
        if isinstance(control, Log):
            if control.origin != self._origin:
                raise BadError(place, f"the log of {control.origin}, not of {self._origin}")
            self._signers.add(control.key)
        elif isinstance(control, Succession):
            if number != 2:
                raise BadError(place, "what a log goes on for is its second line, or nothing is")
            self.view.before = control
        elif isinstance(control, SignerBegan | SignerEnded):
            self._signer(control, place)
        else:
            self._watch(control, place, number)
        self.view.wall = max(self.view.wall, getattr(control, "wall", 0.0))

    def _watch(self, control: Control, place: str, number: int) -> None:
        """What says that somebody watched."""
        if isinstance(control, Start):
            self._start(control, place, number)
        elif isinstance(control, Heartbeat):
            self._heartbeat(control, place)
        elif isinstance(control, Void):
            self.view.void.add(control.segment)
            self._name_torn(control.torn, number)
        elif isinstance(control, Stop):
            self._watched(control.fence, place)
            self._stopped = True
            self._last_wall = control.wall

    def _signer(self, control: SignerBegan | SignerEnded, place: str) -> None:
        """The keys that sign are as the lines before say; verify/signing.py has judged whose signatures count."""
        begins = isinstance(control, SignerBegan)
        if begins == (control.key in self._signers):
            raise BadError(
                place, "a key begins that signs already" if begins else "a key ends that does not sign"
            )
        if begins:
            self._signers.add(control.key)
        else:
            self._signers.discard(control.key)

    def _start(self, start: Start, place: str, number: int) -> None:
        if start.fence <= self._fence:
            raise BadError(place, f"sequencer {start.fence} starts after {self._fence}")
        if start.last != self._last_wall or (start.clean and not self._stopped):
            raise BadError(place, "it misstates where the sequencer before it ended")
        if self._fence and not start.clean:
            self.view.gaps.append(Gap(start.last, start.wall, "the sequencer ended without a word"))
        self._name_torn(start.torn, number)
        self._fence, self._mono, self._last_wall = start.fence, start.mono, start.wall
        self._stopped = False

    def _heartbeat(self, beat: Heartbeat, place: str) -> None:
        self._watched(beat.fence, place)
        silence = beat.mono - self._mono
        if beat.late:
            self.view.gaps.append(Gap(beat.wall - silence, beat.wall, "the sequencer was held up"))
        elif silence > MAX_SILENCE_SECONDS:
            raise BadError(place, f"silence: no heartbeat for {silence:.0f} s, and it does not say why")
        live = {key: view.count - 1 for key, view in self.view.segments.items() if not view.closed}
        if beat.live != live:
            odd = min(set(beat.live.items()) ^ set(live.items()))[0]
            raise BadError(
                place, f"the live segments that it lists do not fit the lines of segment {odd} before it"
            )
        self._mono, self._last_wall = beat.mono, beat.wall
        self.view.beat_wall = beat.wall

    def _watched(self, fence: int, place: str) -> None:
        if fence != self._fence or self._stopped:
            raise BadError(place, f"a leaf of sequencer {fence}, which does not run here")
