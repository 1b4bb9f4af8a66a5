"""Real server processes over the fake App: what is tested here is the server, not the services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.running import Running

Starter = Callable[..., Running]


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests that leave it as it was."""
    running = Running(tmp_path_factory.mktemp("wire"))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    """Makes servers that one test has for itself."""
    made: list[Running] = []

    def make(**arguments: object) -> Running:
        made.append(Running(tmp_path / f"s{len(made)}", **arguments))  # type: ignore[arg-type]  # passed on
        return made[-1]

    yield make
    for running in made:
        running.kill()
