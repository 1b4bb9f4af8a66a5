"""The programs in Go and Java: all cases go in as JSON, one answer for each comes out."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence

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
