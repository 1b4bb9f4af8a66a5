"""The drill of many leases, with few."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills import manyleases


@pytest.mark.timeout(240)
def test_the_drill_finds_nothing_wrong_with_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its bounds are for a quiet machine; here its logic is tried.
    monkeypatch.setattr(manyleases, "ALLOWED_MS", 10_000.0)
    monkeypatch.setattr(manyleases, "ALLOWED_SLOWER_START", 600.0)
    monkeypatch.setattr(manyleases, "ASKED", 5)
    monkeypatch.setattr(manyleases, "STARTS", 1)
    assert manyleases.drill(tmp_path, 1_000) == []
