"""Sockets that say nothing or dribble keep nobody waiting: the drill of scripts/slowloris, short."""

from __future__ import annotations

import asyncio

from tests.drills.slow import siege
from tests.harness.dev import DevServer


def test_real_traffic_is_served_beside_slow_clients(server: DevServer) -> None:
    outcome, held = asyncio.run(siege(server.port, server.token, seconds=3, idle=150, dribbling=50, rate=20))
    assert not outcome.errors
    assert len(outcome.seconds) == 60
    assert held > 100
