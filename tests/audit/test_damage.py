"""T-25: after any edit, deletion, reordering, truncation, duplication or swap, the first bad place is named."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.audit.damage import (
    HISTORY,
    LEAVES,
    Damage,
    Log,
    add,
    cut,
    drop,
    edit,
    empty,
    exchange,
    older_checkpoint,
    rehash_everything,
    rehash_record,
    rehash_segment,
    remove,
    repeat,
    resign,
    shorten,
    swap,
)


def test_the_undamaged_folder_holds(log: Log) -> None:
    report = log.report()
    assert report.failure is None
    assert (report.exit_code, report.pinned, report.segments, report.uncovered) == (0, True, 3, 0)
    assert report.records == 9 + 2 + 3 + 1
    assert report.complete_to > 0
    assert report.lines()[-1] == "VERIFIED"


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
