"""kill -9 at random instants, one hundred times: the invariants hold after each."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.drills.chaos import MUST_HIT, Chaos, summary

KILLS = 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_invariants_hold_after_one_hundred_kills(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"\nseed {seed}")
    chaos = Chaos(tmp_path, seed, workers=4, clients=8)
    found = chaos.run(KILLS)
    text, hit = summary(chaos.kills)
    print(text)
    assert not found, found[:20]
    assert len(chaos.kills) == KILLS
    assert hit >= MUST_HIT
