"""GnuTLS: judge_gnutls.c, on the machine's library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.harness.validators import native
from tests.harness.validators.case import PURPOSES, Case


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    del folder
    return native.ask("judge_gnutls.c", ["-lgnutls"], cases, PURPOSES)
