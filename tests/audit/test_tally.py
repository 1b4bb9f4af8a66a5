"""T-20b: nothing that an anonymous caller does fills the log, and the counts are exact."""

from __future__ import annotations

import threading

import pytest

from kms.audit.record import decode_record
from kms.audit.tally import FULL_PER_SOURCE, MAX_SOURCES, OTHER, RefusalLimiter, Tally, source_prefix
from tests.audit.rig import Rig, event


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("192.0.2.77:4711", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("[2001:db8:1:2::3]:4711", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("unix:/run/socket", "unix:/run/socket"),
        ("", "local"),
        ("x" * 500, "x" * 64),
    ],
)
def test_source_prefix(peer: str, source: str) -> None:
    assert source_prefix(peer) == source


def test_the_first_refusals_of_each_source_are_written_and_the_rest_counted() -> None:
    limiter = RefusalLimiter()
    admitted = sum(limiter.admit(f"192.0.2.{number % 250}") for number in range(1000))
    assert admitted == FULL_PER_SOURCE
    assert limiter.admit("198.51.100.1")
    assert limiter.take() == {"192.0.2.0/24": 1000 - FULL_PER_SOURCE}
    assert limiter.admit("192.0.2.1"), "a new window begins"


def test_many_sources_are_bounded_too() -> None:
    limiter = RefusalLimiter(per_source=20, per_window=100)
    peers = [f"10.{number // 250}.{number % 250}.1" for number in range(2000)]
    assert sum(limiter.admit(peer) for peer in peers) == 100
    counts = limiter.take()
    assert sum(counts.values()) == 1900
    assert len(counts) == MAX_SOURCES + 1
    assert next(iter(counts)) == OTHER


def test_counts_are_exact_over_threads() -> None:
    tally = Tally()

    def add() -> None:
        for _ in range(2000):
            tally.add("health")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.take() == {"health": 8000}
    assert tally.take() == {}


def test_a_flood_leaves_a_bounded_log_with_exact_sums(rig: Rig) -> None:
    recorder = rig.recorder()
    written = sum(
        recorder.refuse(event("refused", "auth.token", peer=f"192.0.{number % 4}.9")) is not None
        for number in range(5000)
    )
    for _ in range(300):
        recorder.count("sys.health")
    recorder.count("sys.health", "sealed")
    recorder.close()
    assert written == 4 * FULL_PER_SOURCE
    lines = rig.layout.segment(recorder.segment).read_bytes().splitlines(keepends=True)
    events = [decode_record(line)[2] for line in lines if b'"control"' not in line[:12]]
    sums = {one.operation: one for one in events if one.phase == "counted"}
    assert len(events) == written + 2
    assert sums["audit.refused"].items == 5000 - written
    assert sums["audit.refused"].fields["counts"] == {f"192.0.{n}.0/24": 1250 - 20 for n in range(4)}
    assert sums["audit.public"].fields["counts"] == {"sys.health": 300, "sys.health sealed": 1}


def test_sums_are_written_when_a_window_ends(rig: Rig) -> None:
    recorder = rig.recorder()
    recorder.count("sys.health")
    rig.clock.jump += 61
    for _ in range(100):
        if b"audit.public" in rig.layout.segment(recorder.segment).read_bytes():
            break
        rig.clock.sleep(0.05)
    else:
        pytest.fail("no sum was written")
    recorder.close()
