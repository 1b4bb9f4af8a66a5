"""Rotation under load, small: the drill of scripts/rotation-drill with fewer requests, and a test of its judge."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.drills.rotation import Drill, Plan, Used, backwards


@pytest.mark.parametrize(
    ("second", "broken"),
    [
        (Used("k", 2.0, 3.0, 1), True),  # began after version 2 was known
        (Used("k", 1.5, 3.0, 1), False),  # was under way when the rotation was answered
        (Used("k", 2.0, 3.0, 2), False),
        (Used("k", 2.0, 3.0, 3), False),
        (Used("other", 2.0, 3.0, 1), False),
    ],
)
def test_the_judge_of_versions(second: Used, broken: bool) -> None:
    assert bool(backwards([Used("k", 0.0, 1.0, 1), Used("k", 1.0, 2.0, 2), second])) is broken


@pytest.mark.timeout(180)
def test_rotation_under_load_loses_nothing(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"\nseed {seed}")
    drill = Drill(tmp_path / "server", Plan(rate=60, seconds=12, rotations=20, roots=5, kills=3), seed)
    found = drill.run()
    print(drill.summary())
    assert not found, found[:20]
    assert min(drill.rotations.values()) == 20
    assert sum(drill.journal.counts.values()) > 100
    assert any(drill.journal.killed), "no killed worker held a connection; this proves too little"
