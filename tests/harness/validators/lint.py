"""pkilint's RFC 5280 and RFC 6960 rules over leaf, chain, CRLs and OCSP answer: whether they are well formed, not good."""

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
    found = [text for der in (case.leaf, *case.chain, *case.roots) for text in _certificate(der)]
    found += [text for der in case.crls for text in _crl(der)]
    return found + (_ocsp(case.ocsp) if case.ocsp else [])


@cache
def _ocsp(der: bytes) -> list[str]:
    return Pkilint().ocsp(der)


@cache
def _certificate(der: bytes) -> list[str]:
    return Pkilint().certificate(der)


@cache
def _crl(der: bytes) -> list[str]:
    return Pkilint().crl(der)
