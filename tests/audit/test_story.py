"""What a signed root alone does not say: stories that cannot be, intents left open, records left behind."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kms.audit.ledger import note_line
from kms.audit.merkle import CompactRange, leaf_hash
from kms.audit.note import Checkpoint, sign_checkpoint
from kms.audit.store import LogRow
from kms.audit.verify import Report
from tests.audit.rig import Rig, event


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
