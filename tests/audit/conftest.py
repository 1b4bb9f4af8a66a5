"""Fixtures of the audit tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.damage import Log, build
from tests.audit.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """One server's log on a folder of its own."""
    made = Rig(tmp_path)
    yield made
    made.shut()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Log:
    rig = Rig(tmp_path_factory.mktemp("made"))
    parts = build(rig)
    rig.shut()
    return Log(rig.folder, rig, *parts)


@pytest.fixture
def log(made: Log, tmp_path: Path) -> Log:
    folder = tmp_path / "copy"
    shutil.copytree(made.folder, folder)
    return Log(folder, made.rig, made.a, made.b, made.dead, made.receipts)
