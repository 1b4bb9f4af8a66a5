"""Java's PKIX validator: Judge.java by the source launcher, all cases in one virtual machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.harness import processes
from tests.harness.validators.case import Case
from tests.harness.validators.programs import ask

SOURCE = Path(__file__).with_name("Judge.java")


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    del folder
    command = [processes.program("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", str(SOURCE)]
    return ask(command, cases)
