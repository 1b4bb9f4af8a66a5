"""The shared page: what survives a dead process, and what several may do at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from kms.errors import KmsError
from kms.shared import BUCKETS, SLOT_BYTES, Shared, _slot


def _in_child(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def _bump(shared: Shared, times: int) -> None:
    for _ in range(times):
        shared.bump_seal_epoch()


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_epoch_is_seen_everywhere() -> None:
    shared = Shared()
    assert shared.seal_epoch() == 0
    assert _wait(_in_child(shared.bump_seal_epoch)) == 0
    assert shared.seal_epoch() == 1


def test_bumps_of_many_processes_all_count() -> None:
    shared = Shared()
    children = [_in_child(lambda: _bump(shared, 200)) for _ in range(4)]
    assert [_wait(pid) for pid in children] == [0] * 4
    assert shared.seal_epoch() == 800


def test_bumps_of_many_threads_all_count() -> None:
    shared = Shared()
    threads = [threading.Thread(target=_bump, args=(shared, 200)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.seal_epoch() == 800


def test_a_process_killed_inside_an_update_blocks_nobody() -> None:
    shared = Shared()
    reading, writing = os.pipe()

    def hold() -> None:
        with shared._locked(0), shared._locked(1):
            os.write(writing, b"x")
            signal.pause()

    pid = _in_child(hold)
    os.read(reading, 1)
    os.kill(pid, signal.SIGKILL)
    assert _wait(pid) == -signal.SIGKILL
    shared.bump_seal_epoch()
    shared.add_quorum_share(b"s")
    assert shared.seal_epoch() == 1
    os.close(reading)
    os.close(writing)


def test_a_torn_slot_keeps_its_old_bytes() -> None:
    shared = Shared()
    shared.write("unseal", b"old")
    at = _slot("unseal")
    idle_half = at + 8 + (1 - (shared._page[at] & 1)) * SLOT_BYTES
    # A process that dies before the deciding byte has written this half only.
    shared._page[idle_half : idle_half + 7] = b"\x03\x00\x00\x00new"
    assert shared.read("unseal") == b"old"
    shared.write("unseal", b"newer")
    assert shared.read("unseal") == b"newer"


def test_replaced_bytes_are_gone() -> None:
    shared = Shared()
    shared.write("unseal", b"canary-share")
    shared.write("unseal", b"")
    assert shared._page.find(b"canary") == -1
    shared.add_quorum_share(b"canary-two")
    shared.reset_quorum()
    assert shared._page.find(b"canary") == -1
    assert shared.quorum_shares() == ("", [])


def test_slots_are_bounded() -> None:
    with pytest.raises(ValueError, match="holds"):
        Shared().write("unseal", b"x" * SLOT_BYTES)


def test_quorum() -> None:
    shared = Shared()
    assert _wait(_in_child(lambda: shared.add_quorum_share(b"one"))) == 0
    nonce, shares = shared.quorum_shares()
    assert (len(nonce), shares) == (36, [b"one"])
    shared.add_quorum_share(b"two")
    shared.add_quorum_share(b"one")  # counts once
    assert shared.quorum_shares() == (nonce, [b"one", b"two"])
    assert shared.quorum_shares("rekey") == ("", [])


@pytest.mark.parametrize("size", [129, 10_000])
def test_what_cannot_be_a_share(size: int) -> None:
    with pytest.raises(KmsError):
        Shared().add_quorum_share(b"x" * size)


def test_255_shares_fit() -> None:
    shared = Shared()
    for number in range(255):
        shared.add_quorum_share(bytes([number]) * 33)
    assert len(shared.quorum_shares()[1]) == 255
    with pytest.raises(KmsError):
        shared.add_quorum_share(b"one more")


def test_rates() -> None:
    shared = Shared()
    ask = [shared.allow(b"a", 100.0, per_second=1.0, burst=3) for _ in range(5)]
    assert ask == [True, True, True, False, False]
    assert shared.allow(b"b", 100.0, per_second=1.0, burst=3)
    assert not shared.allow(b"a", 100.9, per_second=1.0, burst=3)
    assert shared.allow(b"a", 101.1, per_second=1.0, burst=3)
    assert [shared.allow(b"a", 1000.0, per_second=1.0, burst=3) for _ in range(4)] == [
        True,
        True,
        True,
        False,
    ]


def test_rates_are_counted_over_processes() -> None:
    shared = Shared()

    def drain() -> None:
        for _ in range(5):
            assert shared.allow(b"a", 1.0, per_second=0.01, burst=10)

    assert [_wait(_in_child(drain)) for _ in range(2)] == [0, 0]
    assert not shared.allow(b"a", 1.0, per_second=0.01, burst=10)


def test_made_up_keys_cost_no_memory() -> None:
    shared = Shared()
    size = len(shared._page)
    for number in range(3 * BUCKETS):
        shared.allow(b"%d" % number, 1.0, per_second=1.0, burst=1)
    assert len(shared._page) == size


def test_presence() -> None:
    shared = Shared()
    shared.announce()
    assert shared.serving() == [os.getpid()]
    assert _wait(_in_child(shared.announce)) == 0
    (child,) = set(shared.serving()) - {os.getpid()}
    assert not shared.all_full()
    shared.set_full(True)
    assert set(shared.serving()) == {os.getpid(), child}
    assert not shared.all_full(), "the other one has room"
    shared.withdraw(child)
    assert shared.all_full()
    shared.set_full(False)
    assert not shared.all_full()
    shared.set_full(True)
    shared.withdraw(os.getpid())
    assert shared.serving() == []


def _take(
    shared: Shared, key: bytes, now: float, limit: int = 3, block: float = 0.0
) -> tuple[bool, int, float]:
    return shared.take(key, now, limit=limit, interval=10.0, block=block)


def test_a_window_lets_so_many_pass_and_begins_anew() -> None:
    shared = Shared()
    assert [_take(shared, b"a", 100.0 + at) for at in range(4)] == [
        (True, 2, 10.0),
        (True, 1, 9.0),
        (True, 0, 8.0),
        (False, 0, 7.0),
    ]
    assert _take(shared, b"b", 103.0) == (True, 2, 10.0)
    assert _take(shared, b"a", 110.0) == (True, 2, 10.0)


def test_one_too_many_may_block_for_longer() -> None:
    shared = Shared()
    said = [_take(shared, b"a", at, limit=1, block=30.0) for at in (0.0, 1.0, 20.0, 31.0)]
    assert said == [(True, 0, 10.0), (False, 0, 30.0), (False, 0, 11.0), (True, 0, 10.0)]


def test_windows_count_over_all_processes() -> None:
    shared = Shared()
    passed = Shared()

    def work() -> None:
        for _ in range(200):
            if _take(shared, b"all", 5.0, limit=333)[0]:
                passed.bump_seal_epoch()

    children = [_in_child(work) for _ in range(4)]
    assert [_wait(child) for child in children] == [0] * 4
    assert passed.seal_epoch() == 333


def test_very_many_keys_take_the_place_of_those_that_are_over() -> None:
    shared = Shared()
    for number in range(40_000):
        assert _take(shared, f"old {number}".encode(), 1.0)[0]
    for _ in range(3):
        assert _take(shared, b"new", 50.0)[0]
    assert not _take(shared, b"new", 51.0)[0]
