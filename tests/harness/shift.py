"""A server whose wall clock is moved: every process of it reads the time so many days later."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ServerFactory
from tests.harness.dev import DevServer

DAY = 86_400
# Runs in every process of the server before any of our code.
_SHIFT = """import os, time
_real, _shift = time.time, float(os.environ["TEST_CLOCK_SHIFT"])
time.time = lambda: _real() + _shift
"""


class ShiftedServer:
    """One server. Its clock moves while it is stopped.

    Args:
        make: the fixture that makes servers.
        folder: for the code that moves the clock.
    """

    def __init__(self, make: ServerFactory, folder: Path) -> None:
        code = folder / "shift"
        code.mkdir()
        (code / "sitecustomize.py").write_text(_SHIFT)
        self._environment = {"PYTHONPATH": str(code), "TEST_CLOCK_SHIFT": "0"}
        self.server: DevServer = make(workers=2, environment=self._environment)

    def at(self, days: float) -> None:
        """Stop, and start again so many days after the beginning."""
        self.server.stop()
        self._environment["TEST_CLOCK_SHIFT"] = str(days * DAY)
        self.server.start()
