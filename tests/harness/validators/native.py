"""Programs in C on the machine's own libraries: compiled once, all cases in one process."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness import processes
from tests.harness.validators.case import Case

HERE = Path(__file__).parent
CACHE = Path(sys.prefix) / "c-cache"


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
    """The compiled program; processes that ask at the same time wait for one another."""
    texts = [(HERE / name).read_bytes() for name in (source, "cases.h")]
    digest = hashlib.sha256(b"".join(texts) + repr(flags).encode()).hexdigest()[:16]
    target = CACHE / f"{Path(source).stem}-{digest}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = target.with_suffix(".new")
            gcc = processes.program("gcc")
            command = [
                gcc,
                "-O1",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-o",
                str(fresh),
                str(HERE / source),
                *flags,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            fresh.rename(target)
    return target
