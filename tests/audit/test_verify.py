"""T-25: after any edit, deletion, reordering, truncation, duplication or swap, the first bad place is named."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms.audit import LogKey, Receipt, parse_receipt
from kms.audit.control import Frame, Opened, decode_control, encode_control, line_hash
from kms.audit.ledger import note_line
from kms.audit.merkle import CompactRange, leaf_hash
from kms.audit.note import Checkpoint, sign_checkpoint
from kms.audit.record import decode_record, encode_record
from kms.audit.store import LogRow
from kms.audit.verify import Report, TrustFile, verify
from kms.audit.verify.__main__ import main
from kms.errors import KmsError
from tests.audit.rig import Rig, Signer, die, event


class Log:
    """A finished audit folder to damage: two clean segments, a recovered one with a torn tail, three checkpoints.

    Attributes:
        a, b: ids of segments that closed cleanly; `a` has three frames of three records.
        dead: id of the recovered segment.
    """

    def __init__(self, folder: Path, rig: Rig, a: str, b: str, dead: str, receipts: list[Receipt]) -> None:
        self.folder = folder
        self.rig = rig
        self.a, self.b, self.dead = a, b, dead
        self.receipts = receipts

    def path(self, name: str) -> Path:
        """A file by its name, with A, B and DEAD for the segments."""
        for short, segment in (("DEAD", self.dead), ("A", self.a), ("B", self.b)):
            if name == f"segments/{short}":
                name = f"segments/{segment}.jsonl"
        if name == "torn":
            return next((self.folder / "torn").iterdir())
        return self.folder / name

    def lines(self, name: str) -> list[bytes]:
        return self.path(name).read_bytes().splitlines(keepends=True)

    def write(self, name: str, lines: list[bytes]) -> None:
        self.path(name).write_bytes(b"".join(lines))

    def short(self, text: str) -> str:
        for short, segment in (("A", self.a), ("B", self.b), ("DEAD", self.dead)):
            text = text.replace(f"{segment}.jsonl", short).replace(segment, short)
        return text

    def report(self) -> Report:
        return verify(self.folder, self.rig.trust)


def build(rig: Rig) -> tuple[str, str, str, list[Receipt]]:
    sequencer = rig.sequencer()
    a, b, dead = rig.recorder(), rig.recorder(), rig.recorder()
    for recorder in (a, b, dead):
        recorder._tick = lambda: None  # type: ignore[method-assign]  # frames are closed here only
    receipts = []
    for number in range(3):
        receipts += [a.write(event()), a.write(event(fields={"n": number}))]
        rig.change(a, f"a{number}")
        b.write(event())
        for recorder in (a, b):
            recorder.flush()
        sequencer.step()
    rig.conclude(a, rig.intend(a, "forged"))
    dead.write(event())
    die(dead)
    with rig.layout.segment(dead.segment).open("ab") as file:
        file.write(b"torn")
    rig.recover()
    a.close()
    b.close()
    sequencer.stop()
    return a.segment, b.segment, dead.segment, receipts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Log:
    rig = Rig(tmp_path_factory.mktemp("made"))
    parts = build(rig)
    rig.shut()
    return Log(rig.folder, rig, *parts)


@pytest.fixture
def log(made: Log, tmp_path: Path) -> Log:
    folder = tmp_path / "copy"
    shutil.copytree(made.folder, folder)
    return Log(folder, made.rig, made.a, made.b, made.dead, made.receipts)


def test_the_undamaged_folder_holds(log: Log) -> None:
    report = log.report()
    assert report.failure is None
    assert (report.exit_code, report.pinned, report.segments, report.uncovered) == (0, True, 3, 0)
    assert report.records == 9 + 2 + 3 + 1
    assert report.complete_to > 0
    assert report.lines()[-1] == "VERIFIED"


# -- damages: name -> (what is done, where it must be found) ------------------------------------------

Damage = Callable[[Log], None]


def edit(name: str, line: int, old: bytes, new: bytes) -> Damage:
    def damage(log: Log) -> None:
        lines = log.lines(name)
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new, 1)
        log.write(name, lines)

    return damage


def drop(name: str, line: int) -> Damage:
    def damage(log: Log) -> None:
        lines = log.lines(name)
        del lines[line - 1]
        log.write(name, lines)

    return damage


def repeat(name: str, line: int) -> Damage:
    def damage(log: Log) -> None:
        lines = log.lines(name)
        lines.insert(line, lines[line - 1])
        log.write(name, lines)

    return damage


def swap(name: str, line: int) -> Damage:
    def damage(log: Log) -> None:
        lines = log.lines(name)
        lines[line - 1], lines[line] = lines[line], lines[line - 1]
        log.write(name, lines)

    return damage


def cut(name: str, left: int) -> Damage:
    """Keep the first `left` lines."""

    def damage(log: Log) -> None:
        log.write(name, log.lines(name)[:left])

    return damage


def shorten(name: str, by: int) -> Damage:
    """Drop the last bytes."""

    def damage(log: Log) -> None:
        path = log.path(name)
        path.write_bytes(path.read_bytes()[:-by])

    return damage


def add(name: str, data: bytes) -> Damage:
    def damage(log: Log) -> None:
        path = log.path(name)
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    return damage


def remove(name: str) -> Damage:
    return lambda log: log.path(name).unlink()


def exchange(name: str, other: str) -> Damage:
    def damage(log: Log) -> None:
        first, second = log.path(name).read_bytes(), log.path(other).read_bytes()
        log.path(name).write_bytes(second)
        log.path(other).write_bytes(first)

    return damage


def empty(name: str) -> Damage:
    def damage(log: Log) -> None:
        log.path(name).write_bytes(b"")

    return damage


def rehash_record(log: Log) -> None:
    """Change the second record of A and give it a right h."""
    lines = log.lines("segments/A")
    _, record, happened = decode_record(lines[2])
    changed = msgspec.json.encode(msgspec.structs.replace(happened, operation="harmless"))
    lines[2] = encode_record(log.a, record.seq, record.wall, record.mono, changed)[1]
    log.write("segments/A", lines)


def rehash_segment(log: Log) -> None:
    """Change a record of A and make every frame, link and last line of the segment fit again."""
    rehash_record(log)
    lines = log.lines("segments/A")
    pending, prev = CompactRange(), ""
    for at, line in enumerate(lines):
        if not line.startswith(b'{"control"'):
            pending.push(decode_record(line)[0])
            continue
        control = decode_control(line[:-1])
        if isinstance(control, Frame):
            control = msgspec.structs.replace(control, root=pending.root().hex(), prev=prev)
            pending = CompactRange()
        elif not isinstance(control, Opened):
            control = msgspec.structs.replace(control, prev=prev)
        encoded = encode_control(control)
        prev = line_hash(encoded)
        lines[at] = encoded + b"\n"
    log.write("segments/A", lines)


def rehash_everything(log: Log) -> None:
    """As `rehash_segment`, with the leaves made to fit too: only the signatures cannot be made."""
    old = [line for line in log.lines("segments/A") if line.startswith(b'{"control"')]
    rehash_segment(log)
    new = [line for line in log.lines("segments/A") if line.startswith(b'{"control"')]
    leaves = log.lines("log/leaves.jsonl")
    log.write("log/leaves.jsonl", [new[old.index(line)] if line in old else line for line in leaves])


def resign(log: Log) -> None:
    """As `rehash_everything`, signed with another key that pretends to be the log's."""
    rehash_everything(log)
    signer = Signer()
    tree, notes = CompactRange(), []
    sizes = {json.loads(line)["note"].split("\n")[1] for line in log.lines("log/checkpoints.jsonl")}
    note = b""
    for line in log.lines("log/leaves.jsonl"):
        tree.push(leaf_hash(line[:-1]))
        if str(tree.size) in sizes:
            note = sign_checkpoint(Checkpoint(log.rig.key.name, tree.size, tree.root()), signer)
            notes.append(note_line(note))
    log.write("log/checkpoints.jsonl", notes)
    log.path("checkpoint").write_bytes(note)


def older_checkpoint(log: Log) -> None:
    first = json.loads(log.lines("log/checkpoints.jsonl")[0])["note"]
    log.path("checkpoint").write_text(first)


def truncated_history(log: Log) -> None:
    """Cut the history to its first line, with the checkpoint that belongs to it; the leaves stay."""
    log.write("log/checkpoints.jsonl", log.lines("log/checkpoints.jsonl")[:1])
    older_checkpoint(log)


LEAVES, HISTORY = "log/leaves.jsonl", "log/checkpoints.jsonl"

# The leaves that `build` makes: log, start, opened A, frame of A, opened B, frame of B, opened DEAD, heartbeat; the
# first checkpoint covers these 8, the second 10, the third 12.
DAMAGES: dict[str, tuple[Damage, str, str]] = {
    # records
    "a record edited": (edit("segments/A", 3, b"thing.read", b"thing.rood"), "segments/A:3", "h"),
    "a record's number edited": (edit("segments/A", 3, b'"seq":1', b'"seq":2'), "segments/A:3", "h"),
    "a record's h edited": (edit("segments/A", 3, b'"h":"', b'"h":"0'), "segments/A:3", "h"),
    "a record edited and hashed again": (rehash_record, "segments/A:2-4", "hashed again"),
    "a segment hashed again": (rehash_segment, "segments/A:5", "as the log holds it"),
    "segment and leaves hashed again": (rehash_everything, "log/leaves.jsonl:", "root signed"),
    "everything hashed and signed again": (resign, "checkpoint", "no known key"),
    "a record deleted": (drop("segments/A", 3), "segments/A:3", "record 2 where 1 belongs"),
    "the first record deleted": (drop("segments/A", 2), "segments/A:2", "record 1 where 0 belongs"),
    "the last record of a frame deleted": (drop("segments/A", 4), "segments/A:4", "frame 1 closes off 3"),
    "a record duplicated": (repeat("segments/A", 3), "segments/A:4", "record 1 where 2 belongs"),
    "records reordered": (swap("segments/A", 2), "segments/A:2", "record 1 where 0 belongs"),
    "a record moved past its frame": (swap("segments/A", 4), "segments/A:4", "frame 1 closes off 3"),
    "a blank line": (edit("segments/A", 3, b'{"seg', b'\n{"seg'), "segments/A:3", "h"),
    "a carriage return": (edit("segments/A", 3, b'"}\n', b'"}\r\n'), "segments/A:3", "h"),
    # control lines of segments
    "a frame edited": (edit("segments/A", 5, b'"count":3', b'"count":2'), "segments/A:5", "log holds it"),
    "a frame deleted": (drop("segments/A", 5), "segments/A:8", "log holds it"),
    "a frame duplicated": (repeat("segments/A", 5), "segments/A:6", "log holds it"),
    "the first line edited": (edit("segments/A", 1, b'"pid":', b'"pid":1'), "segments/A:1", "log holds it"),
    "the first line deleted": (drop("segments/A", 1), "segments/A:1", "record 0 where 0 belongs"),
    "the last line deleted": (
        lambda log: cut("segments/A", len(log.lines("segments/A")) - 1)(log),
        "segments/A:",
        "ends",
    ),
    "the recovered line edited": (
        lambda log: edit("segments/DEAD", len(log.lines("segments/DEAD")) - 1, b'"framed":1', b'"framed":0')(
            log
        ),
        "segments/DEAD:4",
        "log holds it",
    ),
    # whole segments
    "a tail of records cut off": (cut("segments/A", 6), "segments/A:7", "ends after control line 1"),
    "a segment cut to its first line": (cut("segments/A", 1), "segments/A:2", "ends after control line 0"),
    "half a line cut off": (shorten("segments/A", 10), "segments/A:", "not a whole line"),
    "the last newline cut off": (shorten("segments/A", 1), "segments/A:", "not a whole line"),
    "a segment emptied": (empty("segments/A"), "segments/A:1", "ends"),
    "a segment deleted": (remove("segments/A"), "segments/A", "missing"),
    "segments exchanged": (exchange("segments/A", "segments/B"), "segments/A:1", "log holds it"),
    "something appended to a closed segment": (
        add("segments/A", b"more\n"),
        "segments/A:",
        "follows the last line",
    ),
    "a record appended to a closed segment": (
        lambda log: add("segments/A", log.lines("segments/A")[1])(log),
        "segments/A:",
        "follows the last line",
    ),
    # leaves
    "a frame leaf edited": (edit(LEAVES, 4, b'"count":3', b'"count":4'), "log/leaves.jsonl:4", ""),
    "a heartbeat edited": (
        edit(LEAVES, 8, b'"generation":0', b'"generation":1'),
        "log/leaves.jsonl:1-8",
        "root signed",
    ),
    "a leaf deleted": (drop(LEAVES, 4), "log/leaves.jsonl:7", "lines of segment A before it"),
    "the log line deleted": (drop(LEAVES, 1), "log/leaves.jsonl:1", "begins with its log line"),
    "a leaf duplicated": (repeat(LEAVES, 4), "log/leaves.jsonl:5", ""),
    "a heartbeat duplicated": (repeat(LEAVES, 8), "log/leaves.jsonl:9-10", "root signed"),
    "leaves reordered": (swap(LEAVES, 6), "log/leaves.jsonl:", ""),
    "leaves cut off": (
        lambda log: cut(LEAVES, len(log.lines(LEAVES)) - 2)(log),
        "log/leaves.jsonl:",
        "missing; the signed",
    ),
    "half a leaf cut off": (shorten(LEAVES, 5), "log/leaves.jsonl:", "missing; the signed"),
    "leaves emptied": (empty(LEAVES), "log/leaves.jsonl:1", "missing; the signed"),
    "leaves deleted": (remove(LEAVES), "log/leaves.jsonl", "missing"),
    "a leaf that is no JSON": (edit(LEAVES, 4, b'{"control"', b'{"contr'), "log/leaves.jsonl:4", ""),
    "a leaf with spaces": (edit(LEAVES, 4, b'"n":', b'"n": '), "log/leaves.jsonl:4", ""),
    # checkpoints
    "the checkpoint's size edited": (
        lambda log: edit("checkpoint", 2, log.lines("checkpoint")[1], b"9" + log.lines("checkpoint")[1])(log),
        "checkpoint",
        "signature",
    ),
    "the checkpoint's root edited": (
        lambda log: edit("checkpoint", 3, log.lines("checkpoint")[2], base64.b64encode(b"x" * 32) + b"\n")(
            log
        ),
        "checkpoint",
        "signature",
    ),
    "the checkpoint's signature cut": (shorten("checkpoint", 9), "checkpoint", ""),
    "an older checkpoint put back": (older_checkpoint, "checkpoint", "not the newest"),
    "the checkpoint deleted": (remove("checkpoint"), "checkpoint", "missing"),
    "the checkpoint emptied": (empty("checkpoint"), "checkpoint", ""),
    "a line of the history edited": (edit(HISTORY, 2, b"\\n", b"x\\n"), "log/checkpoints.jsonl:2", ""),
    "the history reordered": (swap(HISTORY, 1), "log/checkpoints.jsonl:2", "does not follow"),
    "a line of the history duplicated": (repeat(HISTORY, 1), "log/checkpoints.jsonl:2", "does not follow"),
    "the history cut": (cut(HISTORY, 2), "log/checkpoints.jsonl", "has been published"),
    "the history deleted": (remove(HISTORY), "log/checkpoints.jsonl", "missing"),
    "a history line of other spelling": (
        edit(HISTORY, 1, b'{"note"', b'{ "note"'),
        "log/checkpoints.jsonl:1",
        "written",
    ),
    # files
    "torn bytes edited": (edit("torn", 1, b"torn", b"tarn"), "torn/", "not the bytes"),
    "torn bytes deleted": (remove("torn"), "torn/", "missing"),
    "the reserve used as a file": (add("reserve", b"x"), "reserve", "holds something"),
    "an unknown file": (add("notes.txt", b"x"), "notes.txt", "does not belong"),
    "an unknown file among the segments": (
        add("segments/x.jsonl", b"x"),
        "segments/x.jsonl",
        "no such segment",
    ),
    "an unknown file beside the leaves": (add("log/more.jsonl", b"x"), "log/more.jsonl", "does not belong"),
    "an unknown folder": (add("more/file", b"x"), "more", "does not belong"),
    "an unknown torn file": (add("torn/x", b"x"), "torn/x", "does not belong"),
    "a torn file of a closed segment": (
        lambda log: add(f"torn/{log.a}-1-0.bin", b"x")(log),
        "torn/A-1-0.bin",
        "no line of the log names it",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_where_it_is(log: Log, name: str) -> None:
    damage, place, said = DAMAGES[name]
    damage(log)
    report = log.report()
    assert report.failure is not None, "not noticed"
    found = log.short(report.failure.place)
    assert found == place or (place.endswith(("/", ":")) and found.startswith(place)), report.failure
    assert said in log.short(report.failure.what), report.failure
    assert report.exit_code == 1
    assert report.lines()[-1].startswith("FAILED at")


def test_leaves_out_of_order_are_named_where_they_lie(log: Log) -> None:
    lines = log.lines(LEAVES)
    for at in range(len(lines) - 1):
        moved = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
        log.write(LEAVES, moved)
        report = log.report()
        assert report.failure is not None
        numbers = [int(part) for part in re.findall(r"\d+", report.failure.place.partition(":")[2])]
        assert numbers[0] <= at + 2 <= numbers[-1] + 1, (at, report.failure)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_byte_can_be_changed_unseen(made: Log, data: st.DataObject) -> None:
    files = sorted(path for path in made.folder.rglob("*") if path.is_file() and path.name != "log.pub")
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[at]))
    try:
        path.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
        report = made.report()
        assert report.failure is not None
        place = report.failure.place
        name = path.relative_to(made.folder).as_posix()
        assert place.partition(":")[0] == name, (name, at, report.failure)
        numbers = [int(part) for part in re.findall(r"\d+", place.partition(":")[2])]
        if numbers:
            line = content[:at].count(b"\n") + 1
            # A changed newline joins two lines; a leaf's fault shows at the latest under the next signed root.
            assert numbers[0] - 1 <= line <= numbers[-1] + 1, (name, line, report.failure)
    finally:
        path.write_bytes(content)


# -- what a signed root alone does not say -------------------------------------------------------------


class Forger:
    """Makes a validly signed folder that tells an impossible story: what a bad sequencer would do."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.layout.make()
        now = 1_700_000_000.0
        self.leaves = [
            b'{"control":"log","origin":"%b","key":"%b","wall":%.1f}'
            % (rig.key.name.encode(), rig.key.line().encode(), now),
            b'{"control":"start","fence":1,"last":0.0,"clean":false,"torn":[],"wall":%.1f,"mono":100.0}'
            % now,
        ]

    def report(self) -> Report:
        tree = CompactRange()
        for leaf in self.leaves:
            tree.push(leaf_hash(leaf))
        note = sign_checkpoint(Checkpoint(self.rig.key.name, tree.size, tree.root()), self.rig.signer)
        self.rig.layout.leaves.write_bytes(b"".join(leaf + b"\n" for leaf in self.leaves))
        self.rig.layout.checkpoints.write_bytes(note_line(note))
        self.rig.layout.checkpoint.write_bytes(note)
        return self.rig.verify()


def beat(**changes: object) -> bytes:
    members = {
        "fence": 1,
        "live": {},
        "generation": 0,
        "digests": {},
        "late": 0.0,
        "wall": 1_700_000_060.0,
        "mono": 160.0,
    }
    return json.dumps({"control": "heartbeat", **members, **changes}, separators=(",", ":")).encode()


def start(**changes: object) -> bytes:
    members = {
        "fence": 2,
        "last": 1_700_000_000.0,
        "clean": False,
        "torn": [],
        "wall": 1_700_000_600.0,
        "mono": 700.0,
    }
    return json.dumps({"control": "start", **members, **changes}, separators=(",", ":")).encode()


STORIES = {
    "a silent minute": ([beat(mono=300.0)], "silence"),
    "a segment lost from a heartbeat": ([beat(live={"ab" * 16: 3})], "live segments"),
    "a heartbeat of another sequencer": ([beat(fence=7)], "sequencer 7"),
    "a start that hides a gap": ([start(last=1_700_000_500.0)], "misstates"),
    "a start that calls a crash clean": ([start(clean=True)], "misstates"),
    "a fence that goes back": ([start(fence=1)], "starts after"),
    "a second log line": ([b'{"control":"log","origin":"x","key":"k","wall":1.0}'], "one only"),
    "a heartbeat after the stop": (
        [b'{"control":"stop","fence":1,"wall":1700000001.0}', beat()],
        "does not run here",
    ),
    "a frame without its segment": (
        [
            b'{"control":"frame","segment":"%b","n":1,"first":0,"count":1,"root":"","prev":"","wall":1.0,"by":"worker"}'
            % (b"ab" * 16)
        ],
        "",
    ),
    "a segment that was opened and is not there": (
        [
            b'{"control":"opened","segment":"%b","n":0,"origin":"keystead.test/log","format":1,"pid":1,"wall":1.0,"mono":1.0}'
            % (b"ab" * 16)
        ],
        "missing",
    ),
    "a segment of another log": (
        [
            b'{"control":"opened","segment":"%b","n":0,"origin":"other","format":1,"pid":1,"wall":1.0,"mono":1.0}'
            % (b"ab" * 16)
        ],
        "another log",
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_an_impossible_story_fails_though_it_is_signed(rig: Rig, name: str) -> None:
    forger = Forger(rig)
    assert forger.report().failure is None
    lines, said = STORIES[name]
    forger.leaves += lines
    report = forger.report()
    assert report.failure is not None
    assert said in report.failure.what
    place = "segments/" if said == "missing" else f"log/leaves.jsonl:{len(forger.leaves)}"
    assert report.failure.place.startswith(place)


def test_gaps_that_are_declared_are_reported(rig: Rig) -> None:
    forger = Forger(rig)
    forger.leaves += [start(), beat(fence=2, mono=1000.0, late=240.0, wall=1_700_000_900.0)]
    report = forger.report()
    assert report.failure is None
    assert [gap.why for gap in report.gaps] == [
        "the sequencer ended without a word",
        "the sequencer was held up",
    ]
    assert sum(line.startswith("gap ") for line in report.lines()) == 2


def test_an_intent_left_open_goes_stale(rig: Rig) -> None:
    recorder = rig.recorder()
    intent = rig.intend(recorder, "a")
    sequencer = rig.sequencer()
    recorder.flush()
    sequencer.step()
    assert rig.verified().notes == ["1 external operations were under way"]
    for _ in range(6):
        rig.clock.jump += 61
        sequencer.step()
    report = rig.verify()
    assert report.failure is not None
    assert (report.failure.place, intent.id in report.failure.what) == (
        f"segments/{recorder.segment}.jsonl:2",
        True,
    )
    rig.conclude(recorder, intent)
    rig.verified()
    recorder.close()
    sequencer.stop()
    rig.verified()


def test_an_event_in_two_segments_is_found(rig: Rig) -> None:
    first, second = rig.recorder(), rig.recorder()
    happened = rig.change(first, "a")
    second._segment.append(msgspec.json.encode(happened), 1.0, 1.0, tx=happened.key)
    first.close()
    second.close()
    rig.sequencer().stop()
    report = rig.verify()
    assert report.failure is not None
    assert "twice" in report.failure.what


def test_records_that_the_log_went_on_without_are_found(rig: Rig) -> None:
    recorder = rig.recorder()
    sequencer = rig.sequencer()
    recorder.write(event())
    recorder.flush()
    sequencer.step()
    recorder.write(event())
    recorder.flush()
    gather = sequencer._gather

    def look_away(state: LogRow, gathered: Any) -> dict[str, str]:
        gathered.positions = dict(state.positions)
        return {}

    sequencer._gather = look_away  # type: ignore[method-assign]  # a sequencer that drops a segment
    for _ in range(4):
        rig.clock.jump += 61
        sequencer.step()
    sequencer._gather = gather  # type: ignore[method-assign]
    report = rig.verify()
    assert report.failure is not None
    assert "went on without" in report.failure.what
    recorder.close()


# -- live folders, trust, receipts, command -------------------------------------------------------------


def test_a_live_folder_is_judged_up_to_its_checkpoint(rig: Rig) -> None:
    sequencer = rig.sequencer()
    recorder = rig.recorder()
    recorder.write(event())
    recorder.flush()
    sequencer.step()
    for _ in range(3):
        recorder.write(event())
    newer = rig.recorder()
    newer.write(event())
    report = rig.verified()
    assert (report.records, report.uncovered) == (1, 4)
    assert any("not covered by a checkpoint yet" in line for line in report.lines())
    with rig.layout.segment(recorder.segment).open("ab") as file:
        file.write(b'{"segment":"being writ')
    assert rig.verified().uncovered == 4
    die(recorder)
    rig.recover()
    assert rig.verified().failure is None
    newer.close()
    sequencer.stop()
    assert rig.verified().uncovered == 0


def test_a_changed_record_in_the_uncovered_part_is_named_too(rig: Rig) -> None:
    sequencer = rig.sequencer()
    recorder = rig.recorder()
    sequencer.step()
    recorder.write(event(operation="thing.read"))
    recorder.close()
    path = rig.layout.segment(recorder.segment)
    path.write_bytes(path.read_bytes().replace(b"thing.read", b"thing.rood"))
    report = rig.verify()
    assert report.failure is not None
    assert report.failure.place.endswith(f"{recorder.segment}.jsonl:2")


def test_a_folder_that_grows_while_it_is_verified_holds(rig: Rig) -> None:
    sequencer = rig.sequencer()
    recorder = rig.recorder()
    for _ in range(30):
        recorder.write(event())
        recorder.flush()
        sequencer.step()
        rig.verified()
    recorder.close()
    sequencer.stop()


def test_truncating_everything_to_an_older_head_is_caught_by_a_remembered_checkpoint(log: Log) -> None:
    head = log.report()
    truncated_history(log)
    size = int(log.lines("checkpoint")[1])
    log.write(LEAVES, log.lines(LEAVES)[:size])
    for name in ("segments/A", "segments/B"):
        log.write(name, log.lines(name)[: 5 if name.endswith("A") else 3])
    log.write("segments/DEAD", log.lines("segments/DEAD")[:1])
    log.path("torn").unlink()
    assert log.report().failure is None, "nothing inside the folder can know"
    root = bytes.fromhex(head.root)
    trust = TrustFile((log.rig.key,), {head.size: root})
    report = verify(log.folder, trust)
    assert report.failure is not None
    assert "has been seen" in report.failure.what


def test_a_remembered_root_that_differs_is_a_fork(log: Log) -> None:
    size = int(json.loads(log.lines(HISTORY)[0])["note"].split("\n")[1])
    report = verify(log.folder, TrustFile((log.rig.key,), {size: b"x" * 32}))
    assert report.failure is not None
    assert "trust file" in report.failure.what


def test_without_a_trust_file_the_key_is_printed_and_not_pinned(log: Log) -> None:
    report = verify(log.folder, None)
    assert (report.failure, report.exit_code) == (None, 3)
    assert any("key not pinned" in line for line in report.lines())
    digest = hashlib.sha256(log.rig.signer.public).hexdigest()
    assert digest in report.lines()[0]


def test_another_logs_key_is_not_this_logs(log: Log) -> None:
    other = TrustFile.parse(_vkey(Signer(), "other"))
    assert verify(log.folder, other).exit_code == 1


def _vkey(signer: Signer, name: str) -> str:
    return LogKey(name, signer.public).line()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "nonsense\n",
        "seen 1 x\n",
        "seen x AAAA\n",
        _vkey(Signer(), "a") + "\n" + _vkey(Signer(), "b"),
    ],
)
def test_bad_trust_files(text: str) -> None:
    with pytest.raises(KmsError):
        TrustFile.parse(text)


def test_a_trust_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "trust"
    path.write_bytes(b"#" * 70_000)
    with pytest.raises(KmsError):
        TrustFile.load(path)


def test_receipts_are_checked(log: Log) -> None:
    assert verify(log.folder, log.rig.trust, log.receipts).failure is None
    receipt = log.receipts[1]
    wrong = {
        "leaf": msgspec.structs.replace(receipt, leaf=b"x" * 32),
        "number": msgspec.structs.replace(receipt, seq=999),
        "segment": msgspec.structs.replace(receipt, segment="ab" * 16),
        "origin": msgspec.structs.replace(receipt, origin="other"),
    }
    for name, bad in wrong.items():
        report = verify(log.folder, log.rig.trust, [bad])
        assert report.failure is not None, name
    twice = [receipt, wrong["leaf"]]
    assert verify(log.folder, log.rig.trust, twice).failure is not None
    assert parse_receipt(receipt.header()) == receipt


def test_nothing_to_verify(tmp_path: Path, rig: Rig) -> None:
    assert verify(tmp_path, None).failure is not None
    rig.layout.make()
    report = rig.verify()
    assert report.failure is not None
    assert "no checkpoint was ever signed" in report.failure.what


def test_the_command(log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trust = tmp_path / "trust"
    trust.write_text(f"# our log\n{log.rig.key.line()}\n")
    folder = str(log.folder)
    assert main([folder, "--trust", str(trust)]) == 0
    assert capsys.readouterr().out.endswith("VERIFIED\n")
    assert main([folder]) == 3
    assert "key not pinned" in capsys.readouterr().out
    assert main([folder, "--trust", str(trust), "--receipt", log.receipts[0].header()]) == 0
    edit("segments/A", 3, b"thing.read", b"thing.rood")(log)
    assert main([folder, "--trust", str(trust)]) == 1
    assert "FAILED at segments/" in capsys.readouterr().out
    assert main([str(tmp_path / "missing")]) == 2
    assert main([folder, "--trust", str(tmp_path / "missing")]) == 2
    assert main([folder, "--receipt", "nonsense"]) == 2
    trust.write_text("nonsense")
    assert main([folder, "--trust", str(trust)]) == 2


def test_it_stands_alone(log: Log) -> None:
    """A process that may import neither storage, HSM nor web framework verifies the folder."""
    code = (
        "import sys\n"
        "for name in ('sqlite3','sqlite_utils','pkcs11','flask','kms.storage','kms.hsm','kms.keys','kms.pipeline'):\n"
        "    sys.modules[name] = None\n"
        "from kms.audit.verify.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(log.folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    module = [sys.executable, "-W", "error", "-m", "kms.audit.verify", str(log.folder)]
    assert subprocess.run(module, capture_output=True, check=False).returncode == 3
