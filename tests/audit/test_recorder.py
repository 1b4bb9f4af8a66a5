"""The recorder: what is written when, and that nothing happens when it cannot be (T-20)."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kms.audit import recorder as recorder_module
from kms.audit import segment as segment_module
from kms.audit.control import Closed, Frame, Opened, decode_control
from kms.audit.merkle import root_of
from kms.audit.receipt import parse_receipt
from kms.audit.record import decode_record
from kms.audit.store import INTENTS, OUTBOX, SEGMENTS
from kms.errors import ErrorKind, KmsError
from kms.sensitive import Sensitive
from tests.audit.rig import ORIGIN, Rig, die, event


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = threading.Event()
    for _ in range(200):
        if condition():
            return
        deadline.wait(0.02)
    pytest.fail("it did not happen within four seconds")


def test_a_segment_from_first_to_last_line(rig: Rig) -> None:
    recorder = rig.recorder()
    path = rig.layout.segment(recorder.segment)
    receipts = [recorder.write(event()) for _ in range(5)]
    recorder.close()
    lines = path.read_bytes().splitlines(keepends=True)
    opened, closed = decode_control(lines[0][:-1]), decode_control(lines[-1][:-1])
    assert isinstance(opened, Opened)
    assert opened.origin == ORIGIN
    assert isinstance(closed, Closed)
    assert (closed.records, closed.clean) == (5, True)
    leaves = [decode_record(line)[0] for line in lines if not line.startswith(b'{"control"')]
    assert leaves == [receipt.leaf for receipt in receipts]
    frames = [decode_control(line[:-1]) for line in lines if line.startswith(b'{"control":"frame"')]
    assert sum(frame.count for frame in frames if isinstance(frame, Frame)) == 5
    if len(frames) == 1 and isinstance(frames[0], Frame):
        assert frames[0].root == root_of(leaves).hex()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(rig.layout.segments.stat().st_mode) == 0o700


def test_the_record_is_in_the_file_when_write_returns(rig: Rig) -> None:
    recorder = rig.recorder()
    for _ in range(20):
        receipt = recorder.write(event())
        assert receipt.leaf.hex()[:16].encode() in rig.layout.segment(recorder.segment).read_bytes()
    recorder.close()


def test_the_row_is_committed_before_the_first_byte(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, int]] = []
    begin = segment_module.Segment.begin

    def watch(segment: segment_module.Segment, *arguments: Any) -> None:
        row = rig.store.reader().get(SEGMENTS, segment.id)
        seen.append((row is not None and row.value.state == "live", segment.path.stat().st_size))
        begin(segment, *arguments)

    monkeypatch.setattr(segment_module.Segment, "begin", watch)
    rig.recorder().close()
    assert seen == [(True, 0)]


def test_frames_close_after_a_thousand_records_or_a_moment(rig: Rig) -> None:
    recorder = rig.recorder()
    for _ in range(2500):
        recorder.write(event())
    path = rig.layout.segment(recorder.segment)
    wait_for(lambda: recorder._segment.pending == 0)
    frames = [
        decode_control(line)
        for line in path.read_bytes().splitlines()
        if line.startswith(b'{"control":"frame"')
    ]
    counts = [frame.count for frame in frames if isinstance(frame, Frame)]
    assert sum(counts) == 2500
    assert max(counts) <= 1000
    recorder.close()


def test_threads_share_a_recorder(rig: Rig) -> None:
    recorder = rig.recorder()

    def work() -> None:
        for _ in range(200):
            recorder.write(event())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    rig.sequencer().stop()
    assert rig.verified().records == 1200


def test_receipts_name_origin_segment_number_and_leaf(rig: Rig) -> None:
    with rig.recorder() as recorder:
        recorder.write(event())
        receipt = recorder.write(event())
    assert receipt.header() == f"{ORIGIN};{recorder.segment};1;{receipt.leaf.hex()}"
    assert parse_receipt(receipt.header()) == receipt


@pytest.mark.parametrize(
    "text", ["", "a;b;c;d", f"o;{'a' * 32};01;{'b' * 64}", f"o;{'a' * 32};1;{'B' * 64}", "x" * 999]
)
def test_what_is_no_receipt(text: str) -> None:
    with pytest.raises(KmsError):
        parse_receipt(text)


# -- state: the outbox ------------------------------------------------------------------------------


def test_an_event_is_committed_with_its_state_and_published_once(rig: Rig) -> None:
    recorder = rig.recorder()
    happened = event("done", "thing.create")
    with rig.store.transaction() as tx:
        staged = recorder.stage(tx, happened)
    row = rig.store.reader().get(OUTBOX, happened.key)
    assert row is not None
    receipt = recorder.publish(staged)
    assert recorder.publish(staged) == receipt
    recorder.close()
    text = rig.layout.segment(recorder.segment).read_bytes()
    assert text.count(row.value.event) == 1


def test_a_rolled_back_change_leaves_nothing(rig: Rig) -> None:
    recorder = rig.recorder()
    happened = event("done", "thing.create")
    with pytest.raises(ZeroDivisionError), rig.store.transaction() as tx:
        recorder.stage(tx, happened)
        raise ZeroDivisionError
    recorder.close()
    assert rig.store.reader().get(OUTBOX, happened.key) is None
    assert happened.id.encode() not in rig.layout.segment(recorder.segment).read_bytes()


def test_a_commit_whose_publication_was_lost_is_made_good(rig: Rig) -> None:
    recorder = rig.recorder()
    happened = event("done", "thing.create")
    with rig.store.transaction() as tx:
        recorder.stage(tx, happened)
    path = rig.layout.segment(recorder.segment)
    assert happened.id.encode() not in path.read_bytes()
    rig.clock.jump += 10
    wait_for(lambda: happened.id.encode() in path.read_bytes())
    recorder.close()
    assert path.read_bytes().count(happened.id.encode()) == 2  # once as tx, once as id: one line


def test_intents_open_and_close(rig: Rig) -> None:
    recorder = rig.recorder()
    intent = rig.intend(recorder, "a")
    assert rig.store.reader().keys(INTENTS) == [intent.id]
    rig.conclude(recorder, intent)
    assert rig.store.reader().keys(INTENTS) == []
    recorder.flush()
    rig.sequencer().step()
    assert rig.store.reader().keys(OUTBOX) == [], "so nothing but the intent can tell that it was ended"
    with pytest.raises(KmsError) as caught:
        rig.conclude(recorder, intent)
    assert caught.value.kind is ErrorKind.CONFLICT
    recorder.close()


def test_hmac_needs_the_key_and_keeps_it(rig: Rig) -> None:
    recorder = rig.recorder()
    with pytest.raises(KmsError) as caught:
        recorder.hmac(b"value")
    assert caught.value.kind is ErrorKind.SEALED
    asked: list[int] = []

    def key() -> Sensitive:
        asked.append(1)
        return Sensitive(b"k" * 32)

    recorder._hash_key = key
    assert recorder.hmac(b"value") == recorder.hmac(b"value") != recorder.hmac(b"other")
    assert recorder.hmac(b"value").startswith("hmac-sha256:")
    assert len(asked) == 1
    recorder.close()


# -- T-20: the append fails -------------------------------------------------------------------------


class Disk:
    """Lets writes to segments fail, wholly or after a part."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.code = 0
        self.part = 0
        self._write = segment_module._write
        monkeypatch.setattr(segment_module, "_write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.part:
            return self._write(fd, data[: self.part])
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        return self._write(fd, data)

    def mend(self) -> None:
        self.code = self.part = 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_failed_append_is_refused_and_later_made_known(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    disk = Disk(monkeypatch)
    recorder = rig.recorder()
    recorder.write(event())
    disk.code = code
    with pytest.raises(KmsError) as caught:
        recorder.write(event())
    assert caught.value.kind is ErrorKind.AUDIT_UNAVAILABLE
    assert not recorder.healthy()
    assert recorder.failures() >= 1
    changed = event("done", "thing.create")
    with pytest.raises(KmsError) as caught, rig.store.transaction() as tx:
        recorder.stage(tx, changed)
    assert caught.value.kind is ErrorKind.AUDIT_UNAVAILABLE
    assert rig.store.reader().get(OUTBOX, changed.key) is None
    disk.mend()
    wait_for(recorder.healthy)
    recorder.write(event())
    recorder.close()
    rig.sequencer().stop()
    report = rig.verified()
    assert report.records == 3
    assert b'"operation":"audit.resumed"' in rig.layout.segment(recorder.segment).read_bytes()


@pytest.mark.parametrize("part", [1, 40, 200])
def test_a_short_write_leaves_no_half_line(rig: Rig, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    disk = Disk(monkeypatch)
    recorder = rig.recorder()
    disk.part = part
    with pytest.raises(KmsError):
        recorder.write(event())
    disk.mend()
    recorder.write(event())
    recorder.close()
    rig.sequencer().stop()
    rig.verified()


def test_a_change_that_was_committed_reaches_the_log_after_the_disk_is_mended(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    recorder = rig.recorder()
    happened = event("done", "thing.create")
    with rig.store.transaction() as tx:
        staged = recorder.stage(tx, happened)
    disk.code = errno.ENOSPC
    with pytest.raises(KmsError):
        recorder.publish(staged)
    disk.mend()
    recorder.close()
    rig.sequencer().stop()
    rig.verified()
    assert rig.store.reader().keys(OUTBOX) == []
    assert f'"tx":"{happened.key}"'.encode() in rig.layout.segment(recorder.segment).read_bytes()


def test_space_is_reserved_before_anything_acts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = rig.recorder()
    happened = event("done", "thing.create")
    with rig.store.transaction() as tx:
        staged = recorder.stage(tx, happened)

    def full(*_: int) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(segment_module, "allocate", full)
    monkeypatch.setattr(recorder._segment, "_reserved", 0)
    with pytest.raises(KmsError), rig.store.transaction() as tx:
        recorder.stage(tx, event())
    with pytest.raises(KmsError):
        recorder.write(event())
    recorder.publish(staged)  # its room was taken when it was staged
    monkeypatch.undo()
    recorder.close()


def test_a_failed_sync_is_never_believed_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = rig.recorder()
    calls: list[int] = []

    def fail(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    recorder.write(event())
    wait_for(lambda: not recorder.healthy())
    monkeypatch.undo()
    for _ in range(3):
        with pytest.raises(KmsError):
            recorder.write(event())
        recorder._wake.set()
    with pytest.raises(KmsError):
        recorder.check()
    die(recorder)


def test_a_real_limit_of_the_file_system(rig: Rig) -> None:
    """RLIMIT_FSIZE in a child process: the kernel itself takes a part of a line, then refuses."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            recorder = rig.recorder(rig.open_store())
            size = rig.layout.segment(recorder.segment).stat().st_size
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, resource.RLIM_INFINITY))
            try:
                for _ in range(50):
                    recorder.write(event())
            except KmsError as error:
                code = 0 if error.kind is ErrorKind.AUDIT_UNAVAILABLE else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    path = next(rig.layout.segments.iterdir())
    rig.recover()
    rig.sequencer().stop()
    rig.verified()
    assert b'"control":"closed"' in path.read_bytes()


def test_no_log_no_service(rig: Rig) -> None:
    rig.folder.mkdir(parents=True)
    rig.layout.segments.write_text("a file where the folder belongs")
    with pytest.raises(KmsError) as caught:
        rig.recorder()
    assert caught.value.kind is ErrorKind.AUDIT_UNAVAILABLE
    assert rig.store.reader().keys(SEGMENTS) == []


def test_an_origin_that_cannot_be_signed_is_refused(rig: Rig) -> None:
    with pytest.raises(KmsError):
        recorder_module.Recorder.open(rig.folder, rig.store, rig.clock, origin="not an origin")


# -- lag --------------------------------------------------------------------------------------------


def test_lag_grows_while_nobody_sequences_and_goes_when_somebody_does(rig: Rig) -> None:
    sequencer = rig.sequencer()
    sequencer.step()
    recorder = rig.recorder()
    assert recorder.lag_seconds() == 0
    recorder.write(event())
    wait_for(lambda: bool(recorder._frames))
    rig.clock.jump += 30
    assert recorder.lag_seconds() >= 30
    assert not recorder.healthy()
    sequencer.step()
    wait_for(lambda: recorder.lag_seconds() == 0)
    assert recorder.healthy()
    recorder.close()


def test_before_there_is_a_log_nothing_is_late(rig: Rig) -> None:
    recorder = rig.recorder()
    recorder.write(event())
    wait_for(lambda: bool(recorder._frames))
    rig.clock.jump += 3600
    wait_for(lambda: recorder.lag_seconds() < 10)
    recorder.close()
