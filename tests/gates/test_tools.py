"""Lint, format, types and import contracts: each tool must have nothing to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gates.sources import TOP

BIN = Path(sys.prefix) / "bin"

TOOLS = {
    "ruff check": ["ruff", "check", "--no-cache", "."],
    "ruff format": ["ruff", "format", "--no-cache", "--check", "."],
    "mypy": ["mypy", "--no-error-summary", "kms", "pki", "tests", "scripts"],
    "import contracts": ["lint-imports", "--no-cache"],
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tool", TOOLS)
def test_tool_is_content(tool: str) -> None:
    command = TOOLS[tool]
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{tool}:\n{done.stdout}{done.stderr}"
