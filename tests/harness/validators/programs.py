"""Programs that judge: compiled once; those in Go and Java get all cases as JSON and answer each."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.harness.validators.case import Case


def ask(
    command: Sequence[str], cases: Sequence[Case], environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The program's answers: {case name: "" or a reason}."""
    done = subprocess.run(
        list(command),
        input=json.dumps([case.as_json() for case in cases]).encode(),
        capture_output=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    answers: dict[str, str] = json.loads(done.stdout)
    return answers


def compiled(
    name: str,
    sources: Sequence[Path],
    command: Callable[[Path], Sequence[str]],
    environment: Mapping[str, str] | None = None,
) -> Path:
    """What a compiler makes of the sources, once in this virtual environment; who comes meanwhile waits.

    `command` is given the place to put it, a file or a folder. In `environment` everything is named that it may see.
    """
    cache = Path(sys.prefix) / "validators"
    said = repr(command(Path("target"))).encode()
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources) + said).hexdigest()[:16]
    target = cache / f"{name}-{digest}"
    cache.mkdir(exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = target.with_suffix(".new")
            done = subprocess.run(
                list(command(fresh)), capture_output=True, text=True, env=environment, check=False
            )
            assert done.returncode == 0, done.stderr
            fresh.rename(target)
    return target
