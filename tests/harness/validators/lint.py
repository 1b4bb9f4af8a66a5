"""pkilint's RFC 5280 rules over leaf, chain, CRLs and OCSP answer: whether they are well formed, not whether they are good."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pki.lint import Pkilint
from tests.harness.validators.case import Case, run


def judge(cases: Sequence[Case], folder: Path) -> dict[str, str]:
    """Every case."""
    return {case.name: "; ".join(_findings(case, folder)) for case in cases}


def _findings(case: Case, folder: Path) -> list[str]:
    found = [text for der in (case.leaf, *case.chain) for text in _certificate(der)]
    found += [text for der in case.crls for text in _crl(der)]
    return found + (_ocsp(case.ocsp, folder) if case.ocsp else [])


def _ocsp(der: bytes, folder: Path) -> list[str]:
    path = folder / "answer.der"
    path.write_bytes(der)
    tool = str(Path(sys.prefix) / "bin" / "lint_ocsp_response")
    done = run(tool, "lint", "--document-format", "DER", "-s", "ERROR", str(path))
    return [(done.stdout + done.stderr).decode(errors="replace")] if done.returncode else []


@cache
def _certificate(der: bytes) -> list[str]:
    return Pkilint().certificate(der)


@cache
def _crl(der: bytes) -> list[str]:
    return Pkilint().crl(der)
