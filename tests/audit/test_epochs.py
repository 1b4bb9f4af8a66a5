"""A log whose key was lost is put aside whole; the next one vouches for every byte of it, or says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kms.audit import LogKey, Recorder, Sequencer, recover
from kms.audit.epochs import log_origin, log_summary, put_aside, succeed, survey
from kms.audit.store import OUTBOX
from kms.audit.verify import Report, TrustFile, verify
from tests.audit.rig import ORIGIN, Rig, Signer, event

NEXT = f"{ORIGIN}/epoch-2"


class Epochs:
    """A server that lost its HSM: the old log of a rig, and a new one under another key."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        recorder = rig.recorder()
        for number in range(3):
            rig.change(recorder, str(number))
        recorder.flush()
        sequencer = rig.sequencer()
        sequencer.step()
        self.late = rig.change(recorder, "not signed any more")
        recorder.close()
        sequencer.abandon()
        rig.recover()
        self.signer = Signer()
        self.key = LogKey(NEXT, self.signer.public)

    def begin(self) -> None:
        rig = self.rig
        before = survey(rig.folder, rig.store.reader(), 1, ORIGIN, "the HSM is lost")
        with rig.store.transaction() as tx:
            succeed(tx, before, NEXT, event("done", "sys.recovered"), rig.clock)
        for _ in range(2):
            put_aside(rig.folder, 1)

    def serve(self) -> None:
        rig = self.rig
        recover(rig.folder, rig.store, rig.clock, origin=NEXT)
        recorder = Recorder.open(rig.folder, rig.store, rig.clock, origin=NEXT)
        rig.change(recorder, "new")
        recorder.close()
        sequencer = Sequencer(
            rig.folder, rig.store, self.signer, rig.clock, origin=NEXT, reserve_bytes=64 * 1024
        )
        sequencer.start()
        sequencer.step()
        sequencer.stop()

    def report(self) -> Report:
        return verify(self.rig.folder, TrustFile((self.key,)))


@pytest.fixture(name="epochs")
def _epochs(rig: Rig) -> Epochs:
    epochs = Epochs(rig)
    epochs.begin()
    epochs.serve()
    return epochs


def test_both_logs_verify_and_the_new_one_names_the_old(epochs: Epochs) -> None:
    report = epochs.report()
    assert report.failure is None, report.failure
    (note,) = [note for note in report.notes if note.startswith("goes on for")]
    assert ORIGIN in note
    old = verify(epochs.rig.layout.epoch(1), epochs.rig.trust)
    assert old.failure is None, old.failure
    summary = log_summary(epochs.rig.folder)
    assert (summary["origin"], summary["finding"]) == (NEXT, "")
    assert summary["before"] == note


def test_what_no_signature_covered_stands_in_the_new_log_too(epochs: Epochs) -> None:
    text = b"".join(path.read_bytes() for path in epochs.rig.layout.segments.glob("*.jsonl"))
    assert epochs.late.key.encode() in text
    assert b"sys.recovered" in text
    assert epochs.rig.store.reader().keys(OUTBOX) == []


def test_names_of_logs() -> None:
    assert (log_origin("i", 1), log_origin("i", 3)) == ("keystead/i", "keystead/i/epoch-3")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", [_flip, Path.unlink], ids=["flipped", "missing"])
def test_damage_to_any_file_of_the_old_log_is_found(epochs: Epochs, damage: Callable[[Path], None]) -> None:
    files = [*_files(epochs.rig.layout.epoch(1)), epochs.rig.layout.manifest(1)]
    assert len(files) >= 5
    for path in files:
        if not path.stat().st_size:
            continue
        kept = path.read_bytes()
        damage(path)
        report = epochs.report()
        assert report.failure is not None, path
        assert "epochs/1" in report.failure.place
        path.write_bytes(kept)
    assert epochs.report().failure is None


@pytest.mark.parametrize("place", ["epochs/1/segments/more.jsonl", "epochs/7"])
def test_a_file_that_does_not_belong_is_found(epochs: Epochs, place: str) -> None:
    (epochs.rig.folder / place).write_text("x")
    report = epochs.report()
    assert report.failure is not None
    assert report.failure.place == place


def test_an_old_log_that_did_not_verify_is_put_aside_with_that_finding(rig: Rig) -> None:
    epochs = Epochs(rig)
    segment = next(iter(rig.layout.segments.glob("*.jsonl")))
    _flip(segment)
    epochs.begin()
    epochs.serve()
    report = epochs.report()
    assert report.failure is None, report.failure
    assert any("did not verify" in note for note in report.notes)
