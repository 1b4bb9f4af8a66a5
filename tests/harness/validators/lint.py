"""pkilint's RFC 5280 rules over leaf, chain and CRLs: whether they are well formed, not whether they are good."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pki.lint import Pkilint
from tests.harness.validators.case import Case


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    del folder
    return {case.name: "; ".join(_findings(case)) for case in cases}


def _findings(case: Case) -> list[str]:
    found = [text for der in (case.leaf, *case.chain) for text in _certificate(der)]
    return found + [text for der in case.crls for text in _crl(der)]


@cache
def _certificate(der: bytes) -> list[str]:
    return Pkilint().certificate(der)


@cache
def _crl(der: bytes) -> list[str]:
    return Pkilint().crl(der)
