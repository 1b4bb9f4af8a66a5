"""scripts/demo, as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.gates.sources import TOP


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo_succeeds_and_cleans_up(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"}
    for name in ("BAO_ADDR", "BAO_TOKEN", "VAULT_ADDR", "VAULT_TOKEN"):
        environment.pop(name, None)
    done = subprocess.run(
        [TOP / "scripts" / "demo"], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Success:" in done.stdout.splitlines()[-1]
    assert not list(tmp_path.glob("keystead-demo-*"))
