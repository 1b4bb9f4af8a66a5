"""A server of policy and identity, and the real peer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.identity.wire import FakeClock, Server
from tests.policy.peer import Peer, running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server(tmp_path: Path, clock: FakeClock) -> Iterator[Server]:
    made = Server(tmp_path, clock)
    yield made
    made.close()


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    with running() as started:
        yield started
