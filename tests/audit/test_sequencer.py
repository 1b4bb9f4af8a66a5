"""The sequencer: one tree, one head, one writer; what it stores, signs and refuses."""

from __future__ import annotations

import base64
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kms.audit import Recorder, Sequencer, Snapshot
from kms.audit.control import Control, Heartbeat, Start, decode_control
from kms.audit.ledger import Ledger
from kms.audit.merkle import check_consistency, consistency_proof, leaf_hash, root_of
from kms.audit.note import open_checkpoint
from kms.audit.store import LOG, LOG_KEY, OUTBOX, SEGMENTS
from kms.errors import ErrorKind, KmsError
from tests.audit.rig import ORIGIN, Rig, Signer, die, event


def leaves(rig: Rig) -> list[Control]:
    return [decode_control(line) for line in rig.layout.leaves.read_bytes().splitlines()]


def kinds(rig: Rig) -> list[str]:
    return [type(leaf).__name__ for leaf in leaves(rig)]


def write_some(rig: Rig, count: int = 3) -> Recorder:
    recorder = rig.recorder()
    for _ in range(count):
        recorder.write(event())
    recorder.flush()
    return recorder


def test_from_the_first_leaf_to_a_clean_stop(rig: Rig) -> None:
    recorder = write_some(rig)
    sequencer = rig.sequencer()
    first = sequencer.step()
    assert (first.size, first.signed, first.broken) == (5, 5, {})
    assert sequencer.step().size == 5, "nothing happened, nothing grows"
    recorder.close()
    sequencer.stop()
    assert kinds(rig) == ["Log", "Start", "Opened", "Frame", "Heartbeat", "Closed", "Stop"]
    note = rig.layout.checkpoint.read_bytes()
    head = open_checkpoint(note, [rig.key])
    assert head.size == 7
    assert head.root == root_of([leaf_hash(line) for line in rig.layout.leaves.read_bytes().splitlines()])
    assert rig.layout.keys.read_text() == rig.key.line() + "\n"
    assert rig.verified().exit_code == 0
    assert rig.store.reader().find(SEGMENTS, {"state": "live"}) == []


def test_outbox_rows_go_in_the_commit_that_covers_them(rig: Rig) -> None:
    recorder = rig.recorder()
    sequencer = rig.sequencer()
    rig.change(recorder, "a")
    rig.change(recorder, "b")
    assert len(rig.store.reader().keys(OUTBOX)) == 2
    recorder.flush()
    sequencer.step()
    assert rig.store.reader().keys(OUTBOX) == []
    rig.change(recorder, "c")
    with rig.store.transaction() as tx:
        recorder.stage(tx, event("done", "thing.create"))  # committed, never published
    recorder.flush()
    sequencer.step()
    assert len(rig.store.reader().keys(OUTBOX)) == 1, "only what the tree holds is dropped"
    recorder.close()
    sequencer.stop()
    rig.verified()


def test_a_heartbeat_a_minute_carries_the_state_of_the_database(rig: Rig) -> None:
    sequencer = rig.sequencer(lambda: Snapshot(generation=41, digests={"identity": "ab" * 32}))
    recorder = write_some(rig)
    for _ in range(3):
        sequencer.step()
        rig.clock.jump += 61
    sequencer.step()
    beats = [leaf for leaf in leaves(rig) if isinstance(leaf, Heartbeat)]
    assert len(beats) == 4
    assert beats[0].live == {recorder.segment: 1}
    assert (beats[-1].generation, beats[-1].digests) == (41, {"identity": "ab" * 32})
    assert all(not beat.late for beat in beats)
    recorder.close()
    sequencer.stop()
    assert rig.verified().gaps == []


def test_a_sequencer_that_was_held_up_says_so(rig: Rig) -> None:
    sequencer = rig.sequencer()
    sequencer.step()
    rig.clock.jump += 500
    sequencer.step()
    sequencer.stop()
    report = rig.verified()
    assert [gap.why for gap in report.gaps] == ["the sequencer was held up"]
    assert report.gaps[0].until - report.gaps[0].since == pytest.approx(500, abs=5)


def test_a_sequencer_that_died_is_declared_by_the_next(rig: Rig) -> None:
    rig.sequencer().step()
    rig._open.pop()()
    rig.clock.jump += 500
    sequencer = rig.sequencer()
    sequencer.step()
    sequencer.stop()
    starts = [leaf for leaf in leaves(rig) if isinstance(leaf, Start)]
    assert [(start.fence, start.clean) for start in starts] == [(1, False), (2, False)]
    report = rig.verified()
    assert [gap.why for gap in report.gaps] == ["the sequencer ended without a word"]
    assert report.gaps[0].until - report.gaps[0].since == pytest.approx(500, abs=5)


def test_checkpoints_are_consistent_with_each_other(rig: Rig) -> None:
    sequencer = rig.sequencer()
    recorder = rig.recorder()
    for _ in range(5):
        recorder.write(event())
        recorder.flush()
        sequencer.step()
    recorder.close()
    sequencer.stop()
    hashes = [leaf_hash(line) for line in rig.layout.leaves.read_bytes().splitlines()]
    ledger = Ledger.open(rig.layout)
    heads, _ = ledger.recent([rig.key])
    ledger.close()
    assert len(heads) == 6
    for before, after in itertools.pairwise(heads):
        proof = consistency_proof(hashes[: after.size], before.size)
        check_consistency(before.size, after.size, before.root, after.root, proof)


def test_an_hsm_that_does_not_answer_delays_signatures_only(rig: Rig) -> None:
    sequencer = rig.sequencer()
    recorder = write_some(rig)
    rig.signer.fails = KmsError(ErrorKind.HSM_UNAVAILABLE, "no token")
    step = sequencer.step()
    assert (step.size, step.signed, step.unsigned_because) == (5, 0, "no token")
    assert not rig.layout.checkpoint.exists()
    rig.signer.fails = None
    assert sequencer.step().signed == 5
    recorder.close()
    sequencer.stop()
    rig.verified()


def test_the_database_failing_loses_and_repeats_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    sequencer = rig.sequencer()
    recorder = write_some(rig)
    transaction = rig.store.transaction

    def fail() -> None:
        raise KmsError(ErrorKind.STORAGE_UNAVAILABLE, "locked")

    monkeypatch.setattr(rig.store, "transaction", fail)
    for _ in range(3):
        with pytest.raises(KmsError):
            sequencer.step()
    monkeypatch.setattr(rig.store, "transaction", transaction)
    sequencer.step()
    recorder.close()
    sequencer.stop()
    assert kinds(rig) == ["Log", "Start", "Opened", "Frame", "Heartbeat", "Closed", "Stop"]
    rig.verified()


def test_a_commit_that_happened_and_was_reported_failed_is_adopted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequencer = rig.sequencer()
    recorder = write_some(rig)
    committed = Sequencer._committed

    def fail(*_: object) -> None:
        raise KmsError(ErrorKind.STORAGE_UNAVAILABLE, "the answer was lost")

    monkeypatch.setattr(Sequencer, "_committed", fail)
    with pytest.raises(KmsError):
        sequencer.step()
    monkeypatch.setattr(Sequencer, "_committed", committed)
    sequencer._row = None  # as it is when the commit itself raises
    sequencer.step()
    recorder.close()
    sequencer.stop()
    assert kinds(rig) == ["Log", "Start", "Opened", "Frame", "Heartbeat", "Closed", "Stop"]
    rig.verified()


@pytest.mark.parametrize("name", ["checkpoints.jsonl", "checkpoint.tmp", "leaves.jsonl"])
@pytest.mark.parametrize("part", [0, 30])
def test_a_full_disk_while_publishing_leaves_no_trace(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str, part: int
) -> None:
    sequencer = rig.sequencer()
    recorder = write_some(rig)
    sequencer.step()
    recorder.write(event())
    recorder.flush()
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().name != name:
            return write(fd, data)
        if part:
            write(fd, bytes(data)[:part])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    for _ in range(2):
        with pytest.raises(KmsError) as caught:
            sequencer.step()
        assert caught.value.kind is ErrorKind.AUDIT_UNAVAILABLE
    monkeypatch.setattr(os, "write", write)
    assert sequencer.step().signed == 6
    rig.verified()
    recorder.close()
    sequencer.stop()
    rig.verified()


def test_two_sequencers_cannot_run(rig: Rig) -> None:
    first = rig.sequencer()
    with pytest.raises(KmsError) as caught:
        rig.sequencer()
    assert caught.value.kind is ErrorKind.CONFLICT
    first.step()


def test_a_sequencer_that_lost_its_fence_ends(rig: Rig) -> None:
    sequencer = rig.sequencer()
    sequencer.step()
    rig.change(recorder := rig.recorder(), "a")
    recorder.flush()
    with rig.store.transaction() as tx:  # another node took over
        row = tx.get(LOG, LOG_KEY)
        assert row is not None
        tx.replace(LOG, row, row.value)
    with pytest.raises(KmsError) as caught:
        sequencer.step()
    assert caught.value.kind is ErrorKind.CONFLICT
    recorder.close()


def test_a_broken_segment_does_not_stop_the_others(rig: Rig) -> None:
    bad, good = write_some(rig), write_some(rig)
    path = rig.layout.segment(bad.segment)
    path.write_bytes(path.read_bytes().replace(b'"first":0', b'"first":7'))
    sequencer = rig.sequencer()
    step = sequencer.step()
    assert list(step.broken) == [bad.segment]
    assert good.segment in rig.layout.leaves.read_text()
    die(bad)
    good.close()
    sequencer.stop()


# -- the memories: one behind another is refused by name ---------------------------------------------


def put_back_database(rig: Rig) -> None:
    with rig.store.transaction() as tx:
        row = tx.get(LOG, LOG_KEY)
        assert row is not None
        tx.delete(LOG, row)


def shorten_leaves(rig: Rig) -> None:
    lines = rig.layout.leaves.read_bytes().splitlines(keepends=True)
    rig.layout.leaves.write_bytes(b"".join(lines[:-2]))


def change_leaf(rig: Rig) -> None:
    data = rig.layout.leaves.read_bytes()
    rig.layout.leaves.write_bytes(data.replace(b'"generation":0', b'"generation":9', 1))


def sign_a_larger_one(rig: Rig) -> None:
    note = rig.layout.checkpoint.read_text()
    origin, size, root = note.split("\n")[:3]
    text = f"{origin}\n{int(size) + 5}\n{root}\n"
    signature = base64.b64encode(rig.key.hash + rig.signer.sign(text.encode())).decode()
    rig.layout.checkpoint.write_text(f"{text}\n— {ORIGIN} {signature}\n")


def sign_another_root(rig: Rig) -> None:
    origin, size, _ = rig.layout.checkpoint.read_text().split("\n")[:3]
    text = f"{origin}\n{size}\n{base64.b64encode(b'x' * 32).decode()}\n"
    signature = base64.b64encode(rig.key.hash + rig.signer.sign(text.encode())).decode()
    rig.layout.checkpoint.write_text(f"{text}\n— {ORIGIN} {signature}\n")


def change_key(rig: Rig) -> None:
    rig.signer = Signer()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (put_back_database, "database knows no audit log"),
        (shorten_leaves, "audit folder is behind"),
        (change_leaf, "not those that the database remembers"),
        (sign_a_larger_one, "database is behind"),
        (sign_another_root, "does not fit the leaves"),
        (change_key, "no known key"),
    ],
)
def test_contradictions_at_start_are_refused_by_name(
    rig: Rig, damage: Callable[[Rig], None], said: str
) -> None:
    write_some(rig).close()
    rig.sequencer().stop()
    damage(rig)
    with pytest.raises(KmsError, match=said) as caught:
        rig.sequencer()
    assert caught.value.kind is ErrorKind.INTEGRITY


def test_a_larger_published_checkpoint_stops_a_running_sequencer(rig: Rig) -> None:
    recorder = write_some(rig)
    sequencer = rig.sequencer()
    sequencer.step()
    sign_a_larger_one(rig)
    recorder.write(event())
    recorder.flush()
    with pytest.raises(KmsError, match="larger checkpoint"):
        sequencer.step()
    recorder.close()


def test_run_steps_until_it_is_told_to_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kms.audit.sequencer.STEP_SECONDS", 0.01)
    import threading  # noqa: PLC0415 (only this test runs the loop)

    sequencer = rig.sequencer()
    recorder = write_some(rig)
    ending = threading.Event()
    sizes: list[int] = []

    def after(step: object) -> None:
        sizes.append(getattr(step, "size", 0))
        if len(sizes) == 3:
            ending.set()

    sequencer.run(ending, after)
    assert sizes == [5, 5, 5]
    recorder.close()
