"""Sockets that say nothing or dribble keep nobody waiting: the drill of scripts/slowloris, short."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.drills.crowd import Front, gather
from tests.drills.slow import siege
from tests.harness.dev import DevServer


def test_real_traffic_is_served_beside_slow_clients(server: DevServer) -> None:
    outcome, held = asyncio.run(siege(server.port, server.token, seconds=3, idle=150, dribbling=50, rate=20))
    assert not outcome.errors
    assert len(outcome.seconds) == 60
    assert held > 100


def test_clients_that_stay_connected_through_the_front_proxy_of_the_readme(
    server: DevServer, tmp_path: Path
) -> None:
    front = Front(tmp_path / "front", server.port)
    try:
        outcome = asyncio.run(gather(front.port, front.trust, server.token, clients=40, seconds=1, rate=100))
    finally:
        front.stop()
    assert outcome.errors == []
    assert (outcome.held, len(outcome.seconds)) == (40, 100)
