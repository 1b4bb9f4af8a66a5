"""Programs in C on the machine's own libraries: compiled once, all cases in one process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness import processes
from tests.harness.validators.case import Case
from tests.harness.validators.programs import compiled

HERE = Path(__file__).parent


def ask(source: str, flags: Sequence[str], cases: Sequence[Case], purposes: dict[str, str]) -> dict[str, str]:
    """The program's answer to each case: "" or its reason to refuse. `purposes` has its words for ours."""
    text = "".join(line for case in cases for line in _lines(case, purposes))
    command = [str(program(source, flags))]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode} {done.stderr}"
    answers = done.stdout.splitlines()
    return {case.name: answer for case, answer in zip(cases, answers, strict=True)}


def _lines(case: Case, purposes: dict[str, str]) -> Iterator[str]:
    """As cases.h reads them."""
    documents = (("leaf", (case.leaf,)), ("chain", case.chain), ("root", case.roots), ("crl", case.crls))
    for word, ders in (*documents, ("ocsp", (case.ocsp,) if case.ocsp else ())):
        for der in ders:
            yield f"{word} {der.hex()}\n"
    yield f"at {case.at}\nleaf_only {int(case.leaf_only)}\nlisting {int(case.listing)}\n"
    if case.host:
        yield f"host {case.host}\n"
    if case.purpose in purposes:
        yield f"purpose {purposes[case.purpose]}\n"
    yield "\n"


def program(source: str, flags: Sequence[str]) -> Path:
    """The compiled program."""
    sources = [HERE / source, HERE / "cases.h"]
    start = [processes.program("gcc"), "-O1", "-Wall", "-Wextra", "-Werror"]
    return compiled(
        Path(source).stem, sources, lambda target: [*start, "-o", str(target), str(sources[0]), *flags]
    )
