"""wrk, as the drills use it: one POST again and again, at hardly any cost of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.harness import processes

LUA = Path(__file__).with_name("load.lua")
NUMBER = "{number}"
"""Where this stands in the body, each request has another number."""


def load(
    address: str, token: str, path: str, body: dict[str, Any], seconds: int, folder: Path
) -> dict[str, float]:
    """One thread, 16 kept connections.

    Args:
        address: of the server.
        token: who asks.
        path: below /v1/.
        body: of the request; see `NUMBER`.
        seconds: how long.
        folder: private; token and body reach wrk by files in it.

    Returns:
        requests, seconds, p50_ms, p99_ms.

    Raises:
        RuntimeError: a request was refused, or a connection broke.
    """
    (folder / "body").write_text(json.dumps(body))
    (folder / "token").write_text(token)
    command = [processes.program("wrk"), "-t1", "-c16", f"-d{seconds}s", "--timeout", "10s", "-s", str(LUA)]
    done = subprocess.run(
        [*command, f"{address}/v1/{path}"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LOAD_FOLDER": str(folder)},
    )
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert results, done.stdout + done.stderr
    counted: dict[str, float] = json.loads(results[0].removeprefix("RESULT "))
    if counted["refused"] or counted["broken"] or not counted["requests"]:
        raise RuntimeError(f"{path} at {address}: {counted}")
    return counted
