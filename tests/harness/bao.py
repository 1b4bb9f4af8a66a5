"""The real `bao` command against one server with one token."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness.dev import clean_environment

BAO = Path(sys.prefix) / "bin" / "bao"


class Bao:
    """Runs `bao` with BAO_ADDR and BAO_TOKEN and nothing else of the caller's environment."""

    def __init__(self, address: str, token: str, home: Path) -> None:
        assert BAO.exists(), "bao is not installed; run scripts/setup"
        self._home = home
        self.environment = clean_environment(home, BAO_ADDR=address, BAO_TOKEN=token, NO_COLOR="1")

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run and return whatever happened."""
        return subprocess.run(
            [str(BAO), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self._home,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run; must succeed; what it printed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"bao {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def field(self, name: str, *arguments: str, stdin: str | None = None) -> str:
        """One field of the answer: `bao <verb> -field=NAME ...`."""
        return self(arguments[0], f"-field={name}", *arguments[1:], stdin=stdin).strip()

    def json(self, *arguments: str, stdin: str | None = None) -> dict[str, Any]:
        """The whole answer."""
        parsed: dict[str, Any] = json.loads(self(arguments[0], "-format=json", *arguments[1:], stdin=stdin))
        return parsed
