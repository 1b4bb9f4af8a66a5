"""Recovery of what a dead process left: nothing lost, nothing twice, everything named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kms.audit.segment import Segment
from kms.audit.store import INTENTS, OUTBOX, SEGMENTS, SegmentRow
from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from tests.audit.rig import Rig, die, event


def finish(rig: Rig) -> None:
    rig.sequencer().stop()
    rig.verified()


def append(rig: Rig, segment: str, data: bytes) -> None:
    with rig.layout.segment(segment).open("ab") as file:
        file.write(data)


def test_unframed_records_are_framed_and_marked(rig: Rig) -> None:
    recorder = rig.recorder()
    recorder.flush()
    recorder._ending.set()
    recorder._thread.join()
    recorder.write(event())
    recorder.write(event())
    recorder._segment.abandon()
    (ended,) = rig.recover().ended
    assert (ended.framed, ended.appended, ended.torn) == (2, 0, ())
    assert b'"by":"recovery"' in rig.layout.segment(recorder.segment).read_bytes()
    assert rig.recover().ended == [], "recovery is done once"
    finish(rig)


@pytest.mark.parametrize(
    "tail",
    [
        b"x",
        b'{"segment":"half a record',
        b"\0" * 4096,
        b"not a record\n",
        b"\0\0\0\n\0\0\0\n",
        b'{"control":"frame"}\n',
        b"\n",
        "\u2028\n".encode(),
    ],
)
def test_a_torn_tail_is_kept_hashed_and_named(rig: Rig, tail: bytes) -> None:
    recorder = rig.recorder()
    recorder.write(event())
    die(recorder)
    append(rig, recorder.segment, tail)
    (ended,) = rig.recover().ended
    (torn,) = ended.torn
    assert (rig.layout.torn / torn.name).read_bytes() == tail
    assert torn.bytes == len(tail)
    finish(rig)
    assert torn.name.encode() in rig.layout.leaves.read_bytes()


def test_a_frame_over_other_records_is_torn_off(rig: Rig) -> None:
    recorder = rig.recorder()
    recorder._ending.set()
    recorder._thread.join()
    recorder.write(event())
    recorder.flush()
    recorder._segment.abandon()
    path = rig.layout.segment(recorder.segment)
    path.write_bytes(path.read_bytes().replace(b'"count":1', b'"count":2'))
    (ended,) = rig.recover().ended
    assert len(ended.torn) == 1
    finish(rig)


def test_committed_events_that_never_reached_the_segment_are_appended_once(rig: Rig) -> None:
    recorder = rig.recorder()
    rig.change(recorder, "published")
    lost = event("done", "thing.create")
    with rig.store.transaction() as tx:
        recorder.stage(tx, lost)
    die(recorder)
    (ended,) = rig.recover().ended
    assert ended.appended == 1
    assert rig.recover().ended == []
    finish(rig)
    text = rig.layout.segment(recorder.segment).read_bytes()
    assert text.count(f'"tx":"{lost.key}"'.encode()) == 1
    assert text.count(b'"late":true') == 1
    assert rig.store.reader().keys(OUTBOX) == []


def test_a_live_writer_is_left_alone(rig: Rig) -> None:
    recorder = rig.recorder()
    intent = rig.intend(recorder, "a")
    found = rig.recover()
    assert (found.ended, found.intents) == ([], [])
    rig.conclude(recorder, intent)
    recorder.close()
    finish(rig)


def test_intents_of_the_dead_are_returned_until_they_are_ended(rig: Rig) -> None:
    recorder = rig.recorder()
    done = rig.intend(recorder, "done")
    rig.conclude(recorder, done)
    intent = rig.intend(recorder, "open")
    sequencer = rig.sequencer()
    recorder.flush()
    sequencer.step()  # the intent's outbox row is gone; the intent is not
    die(recorder)
    (found,) = rig.recover().intents
    assert (found.id, found.subject) == (intent.id, {"name": "open"})
    assert len(rig.recover().intents) == 1
    other = rig.recorder()
    rig.conclude(other, found, "unknown")
    assert rig.recover().intents == []
    assert rig.store.reader().keys(INTENTS) == []
    other.close()
    sequencer.stop()
    assert rig.verified().unknown == [f"thing.forge things/open ({intent.id})"]


def test_an_intent_of_a_segment_that_closed_is_open_all_the_same(rig: Rig) -> None:
    recorder = rig.recorder()
    rig.intend(recorder, "a")
    recorder.close()
    assert len(rig.recover().intents) == 1
    rig.sequencer().stop()
    assert len(rig.recover().intents) == 1


def test_a_commit_that_ended_after_its_segment_closed_finds_a_home(rig: Rig) -> None:
    recorder = rig.recorder()
    late = event("done", "thing.create")
    transaction = rig.open_store()
    with transaction.transaction() as tx:
        recorder.stage(tx, late)
        recorder._staged.clear()  # close() cannot see a transaction that is still open
        recorder.close()
    transaction.close()
    sequencer = rig.sequencer()
    sequencer.step()
    assert rig.store.reader().keys(OUTBOX) == [late.key]
    (ended,) = rig.recover().ended
    assert (ended.appended, ended.segment != recorder.segment) == (1, True)
    assert rig.recover().ended == []
    sequencer.stop()
    rig.verified()
    assert rig.store.reader().keys(OUTBOX) == []


# -- segments that hardly began -----------------------------------------------------------------------


def announce(rig: Rig, segment: str) -> None:
    with rig.store.transaction() as tx:
        tx.insert(SEGMENTS, segment, SegmentRow(state="live", opened=rig.clock.now()))


@pytest.mark.parametrize("content", [None, b"", b'{"control":"ope', b"\0" * 100])
def test_a_segment_without_its_first_line_is_void(rig: Rig, content: bytes | None) -> None:
    segment = Segment.create(rig.layout, "ab" * 16)
    announce(rig, segment.id)
    segment.abandon()
    if content is None:
        segment.path.unlink()
    else:
        segment.path.write_bytes(content)
    (ended,) = rig.recover().ended
    assert (ended.void, len(ended.torn)) == (True, 1 if content else 0)
    assert not segment.path.exists()
    finish(rig)
    assert rig.store.reader().find(SEGMENTS, {"state": "voided"})


def test_a_file_that_was_made_and_never_announced_is_removed_in_time(rig: Rig) -> None:
    segment = Segment.create(rig.layout, "ab" * 16)
    segment.abandon()
    rig.recover()
    assert segment.path.exists(), "its process may be about to announce it"
    rig.clock.jump += 120
    rig.recover()
    assert not segment.path.exists()


def test_a_segment_with_records_that_the_database_does_not_know_is_refused(rig: Rig) -> None:
    recorder = rig.recorder()
    recorder.write(event())
    die(recorder)
    with rig.store.transaction() as tx:
        row = tx.get(SEGMENTS, recorder.segment)
        assert row is not None
        tx.delete(SEGMENTS, row)
    with pytest.raises(KmsError, match="database is behind") as caught:
        rig.recover()
    assert caught.value.kind is ErrorKind.INTEGRITY


def test_a_segment_that_the_log_holds_and_the_folder_does_not_is_refused(rig: Rig) -> None:
    recorder = rig.recorder()
    recorder.write(event())
    recorder.flush()
    rig.sequencer().step()
    die(recorder)
    rig.layout.segment(recorder.segment).unlink()
    with pytest.raises(KmsError, match="is missing") as caught:
        rig.recover()
    assert caught.value.kind is ErrorKind.INTEGRITY


def test_a_folder_that_cannot_be_used_is_said(rig: Rig, tmp_path: Path) -> None:
    rig.folder.parent.mkdir(exist_ok=True)
    (tmp_path / "audit").write_text("not a folder")
    with pytest.raises(KmsError) as caught:
        rig.recover()
    assert caught.value.kind is ErrorKind.AUDIT_UNAVAILABLE


def test_stray_files_are_judged_by_age_of_the_file(rig: Rig) -> None:
    segment = Segment.create(rig.layout, "cd" * 16)
    segment.abandon()
    old = SystemClock().now() - 3600
    os.utime(segment.path, (old, old))
    rig.recover()
    assert not segment.path.exists()
