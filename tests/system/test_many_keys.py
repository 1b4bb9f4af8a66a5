"""scripts/many-keys with few keys: its verdict can fail, and the real thing runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.drills.manykeys import Figures, drill, verdict

FEW = Figures(keys=100, start_seconds=1.0, first_use_ms=3.0, objects=8, database_mib=1.0)


@pytest.mark.parametrize(
    ("many", "text"),
    [
        (replace(FEW, keys=100_000, start_seconds=1.9), ""),
        (replace(FEW, keys=100_000, start_seconds=9.0), "a start got slower"),
        (replace(FEW, keys=100_000, objects=100_008), "left objects in the token"),
    ],
)
def test_the_verdict(many: Figures, text: str) -> None:
    found = verdict(FEW, many)
    assert len(found) == bool(text)
    assert text in "".join(found)


def test_the_drill_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drill(tmp_path / "server", 250) == []
    said = capsys.readouterr().out
    assert "100 keys" in said
    assert "250 keys" in said
