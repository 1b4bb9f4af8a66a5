"""A backup of database and log while both are written: one state, which recovers and verifies like any other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kms.audit import backup, recover
from kms.audit.verify import verify
from kms.errors import KmsError
from kms.storage import backup as storage_backup
from tests.audit.rig import ORIGIN, THINGS, Rig
from tests.support import make_store


def take(rig: Rig, target: Path) -> bool:
    (target / "db").mkdir(parents=True)
    extent = storage_backup.copy(
        rig.root / "db", target / "db", lambda reader: backup.measure(rig.folder, reader)
    )
    return backup.copy(rig.folder, target / "audit", extent)


def check(rig: Rig, target: Path) -> int:
    """Recover and verify the copy; how many things it holds."""
    store = make_store(target / "db", rig._sealer)
    recover(target / "audit", store, rig.clock, origin=ORIGIN)
    report = verify(target / "audit", rig.trust)
    assert report.failure is None, report.failure
    things = store.reader().keys(THINGS)
    text = b"".join(path.read_bytes() for path in (target / "audit" / "segments").iterdir())
    for thing in things:
        assert text.count(f'"tx":"{thing}/done"'.encode()) == 1, "a change without its record, or with two"
    store.close()
    return len(things)


def test_copies_taken_while_changes_are_made_hold(rig: Rig, tmp_path: Path) -> None:
    recorder, sequencer = rig.recorder(), rig.sequencer()
    rig.change(recorder, "first")
    recorder.flush()
    sequencer.step()
    ending = threading.Event()

    def work() -> None:
        store = rig.open_store()
        number = 0
        while not ending.is_set():
            rig.change(recorder, str(number), store)
            number += 1
        store.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        taken = [take(rig, tmp_path / f"copy-{number}") for number in range(4)]
    finally:
        ending.set()
        thread.join()
    assert taken == [True] * 4
    counts = [check(rig, tmp_path / f"copy-{number}") for number in range(4)]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    recorder.close()
    sequencer.stop()
    rig.verified()


def test_the_checkpoint_of_a_copy_is_the_newest_that_its_database_knows(rig: Rig, tmp_path: Path) -> None:
    recorder, sequencer = rig.recorder(), rig.sequencer()
    rig.change(recorder, "one")
    recorder.flush()
    sequencer.step()
    (tmp_path / "copy" / "db").mkdir(parents=True)
    extent = storage_backup.copy(
        rig.root / "db", tmp_path / "copy" / "db", lambda reader: backup.measure(rig.folder, reader)
    )
    known = rig.layout.checkpoint.read_bytes()
    rig.change(recorder, "two")
    recorder.flush()
    sequencer.step()
    assert rig.layout.checkpoint.read_bytes() != known
    assert backup.copy(rig.folder, tmp_path / "copy" / "audit", extent)
    assert (tmp_path / "copy" / "audit" / rig.layout.checkpoint.relative_to(rig.folder)).read_bytes() == known
    assert check(rig, tmp_path / "copy") == 1
    recorder.close()


def test_a_recovery_in_the_middle_asks_for_another_copy(rig: Rig, tmp_path: Path) -> None:
    recorder = rig.recorder()
    rig.change(recorder, "one")
    extent = backup.measure(rig.folder, rig.store.reader())
    (rig.layout.torn / "0-0.bin").write_bytes(b"torn")
    assert not backup.copy(rig.folder, tmp_path / "copy", extent)
    recorder.close()


def test_a_log_that_was_never_signed_can_be_copied(rig: Rig, tmp_path: Path) -> None:
    recorder = rig.recorder()
    rig.change(recorder, "one")
    assert take(rig, tmp_path / "copy")
    store = make_store(tmp_path / "copy" / "db", rig._sealer)
    assert len(store.reader().keys(THINGS)) == 1
    store.close()
    recorder.close()


def test_without_a_database_there_is_nothing_to_copy(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(KmsError, match="missing"):
        storage_backup.copy(tmp_path / "empty", tmp_path, lambda _reader: None)
