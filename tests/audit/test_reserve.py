"""A full disk: ordinary records are refused, and a sudo operation that may mend it still gets its own."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

import pytest

from kms.audit import segment as segment_module
from kms.audit.reserve import Reserve, allocate
from kms.errors import KmsError
from tests.audit.rig import Rig, event


def test_space_is_taken_without_changing_the_size(rig: Rig) -> None:
    rig.layout.make()
    path = rig.folder / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        if allocate(fd, 0, 1 << 20):
            assert os.fstat(fd).st_blocks * 512 >= 1 << 20
        assert os.fstat(fd).st_size == 0
    finally:
        os.close(fd)


class Fallocate:
    """Stands for the C function; fails with a code."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.argtypes: Any = None

    def __call__(self, *_: int) -> int:
        ctypes.set_errno(self.code)
        return -1


@pytest.mark.parametrize(
    ("code", "raises"),
    [(errno.EOPNOTSUPP, False), (errno.ENOSYS, False), (errno.ENOSPC, True), (errno.EIO, True)],
)
def test_what_the_file_system_answers(monkeypatch: pytest.MonkeyPatch, code: int, *, raises: bool) -> None:
    library = type("Library", (), {"fallocate64": Fallocate(code)})()
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    if raises:
        with pytest.raises(OSError, match=os.strerror(code)):
            allocate(0, 0, 1)
    else:
        assert not allocate(0, 0, 1)


def test_a_system_without_the_call_has_no_reservation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert not allocate(0, 0, 1)


def test_the_reserve_is_held_given_up_and_taken_again(rig: Rig) -> None:
    rig.layout.make()
    reserve = Reserve(rig.layout, 4096)
    assert reserve.hold()
    assert rig.layout.reserve.stat().st_blocks * 512 >= 4096
    assert reserve.hold()
    assert reserve.release()
    assert not reserve.release()
    assert reserve.hold()


def test_no_reserve_is_taken_from_a_disk_that_is_nearly_full(rig: Rig) -> None:
    rig.layout.make()
    assert not Reserve(rig.layout, 1 << 60).hold()
    assert not rig.layout.reserve.exists()


def test_the_sequencer_holds_the_reserve(rig: Rig) -> None:
    sequencer = rig.sequencer()
    sequencer.step()
    assert rig.layout.reserve.exists()
    rig.layout.reserve.unlink()
    rig.clock.jump += 61
    sequencer.step()
    assert rig.layout.reserve.exists()
    sequencer.stop()
    rig.verified()


def test_on_a_full_disk_only_urgent_records_are_taken(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = rig.recorder()
    recorder._tick = lambda: None  # type: ignore[method-assign]  # the thread's own record would need room too
    assert Reserve(rig.layout, 4096).hold()
    full = allocate

    def no_room(fd: int, offset: int, length: int) -> bool:
        if rig.layout.reserve.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return full(fd, offset, length)

    monkeypatch.setattr(segment_module, "allocate", no_room)
    recorder._segment._reserved = 0
    with pytest.raises(KmsError):
        recorder.write(event())
    with pytest.raises(KmsError), rig.store.transaction() as tx:
        recorder.stage(tx, event())
    assert rig.layout.reserve.exists()
    with rig.store.transaction() as tx:
        staged = recorder.stage(tx, event("done", "sys.mend"), urgent=True)
    recorder.publish(staged)
    recorder.write(event(), urgent=True)
    assert not rig.layout.reserve.exists()
    recorder.close()
    rig.sequencer().stop()
    assert rig.verified().records == 2
