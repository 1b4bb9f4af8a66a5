"""kill -9 at random instants, one hundred times: the invariants hold after each."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.drills.chaos import MUST_HIT, episodes, summary

KILLS = 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_invariants_hold_after_one_hundred_kills(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"\nseed {seed}")
    found, kills = episodes(tmp_path, KILLS, seed)
    text, hit = summary(kills)
    print(text)
    assert not found, found[:20]
    assert len(kills) == KILLS
    assert hit >= MUST_HIT
