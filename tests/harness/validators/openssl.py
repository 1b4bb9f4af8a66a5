"""The machine's OpenSSL with -x509_strict: judge_openssl.c, on its library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.harness.validators import native
from tests.harness.validators.case import PURPOSES, Case


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    del folder
    return native.ask("judge_openssl.c", ["-lcrypto"], cases, PURPOSES)
