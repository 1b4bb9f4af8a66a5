"""The bench runs, counts and divides rightly; how fast anybody is stays outside of the tests."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.drills import bench

FIGURES = {"cpu_us", "per_second", "p50_ms", "p99_ms", "requests"}


@pytest.mark.slow
def test_bench_measures_both_servers() -> None:
    figures = bench.run(seconds=1, workers=2, wanted="encrypt", console=Console(quiet=True))
    assert [row["name"] for row in figures["rows"]] == ["encrypt", "encrypt, batch of 400"]
    for row in figures["rows"]:
        for side in ("ours", "theirs"):
            assert set(row[side]) == FIGURES
            assert all(value > 0 for value in row[side].values())
        assert row["ratio"] == pytest.approx(row["theirs"]["cpu_us"] / row["ours"]["cpu_us"])


@pytest.mark.slow
def test_what_audit_devices_cost_is_measured() -> None:
    found = bench.devices(seconds=1, workers=1, wanted="decrypt", console=Console(quiet=True))
    assert list(found) == ["decrypt"]
    assert len(found["decrypt"]) == 3
    assert all(value > 0 for value in found["decrypt"])
