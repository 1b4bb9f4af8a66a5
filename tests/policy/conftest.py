"""One real peer for the whole suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.policy.peer import Peer, running


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    with running() as server:
        yield server
