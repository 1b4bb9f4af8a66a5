"""The drill of random requests, with few of them (T-50)."""

from __future__ import annotations

from pathlib import Path

from tests.drills.issuing import drill


def test_a_hundred_random_requests(tmp_path: Path) -> None:
    figures = drill(tmp_path, 100, seed=50)
    assert figures.wrong == []
    assert figures.issued >= 30
    assert figures.refused.total() >= 5
    assert figures.strict >= 1
