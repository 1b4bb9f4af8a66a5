"""NSS: judge_nss.c, on the machine's library. It checks no host names, and judges for one of its uses always."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.harness.validators import native
from tests.harness.validators.case import PURPOSES, Case

_FLAGS = [
    "-isystem/usr/include/nss",
    "-isystem/usr/include/nspr",
    "-rdynamic",
    *("-lnss3", "-lnssutil3", "-lnspr4"),
]


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    del folder
    return native.ask("judge_nss.c", _FLAGS, cases, {**PURPOSES, "ca": "ca"})
