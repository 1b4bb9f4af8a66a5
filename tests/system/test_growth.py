"""Nothing on the way of a request does more work as keys, versions, tokens, policies, roles, certificates or records grow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.dev import DevServer

MORE = 150
# A tree of the database has one more level now and then, and a dictionary one more probe: not one step per row.
SLACK = 12


def test_a_request_is_as_much_work_among_many_as_among_few(tmp_path: Path) -> None:
    server = DevServer(tmp_path / "server", workers=1)
    server.start()
    token = server.token
    server.stop()
    done = subprocess.run(
        [sys.executable, "-m", "tests.drills.growth", str(server.data), token, str(MORE)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    for request, few in counts["few"].items():
        many = counts["many"][request]
        for unit in few:
            assert few[unit] > 0 or unit == "steps"
            assert many[unit] <= few[unit] + SLACK, f"{request}: {unit} {few[unit]} -> {many[unit]}"
    assert counts["few"]["issue"]["steps"] > 10, "SQLite's work is not counted"
    assert counts["few"]["encrypt"]["calls"] == pytest.approx(counts["many"]["encrypt"]["calls"], abs=SLACK)
