"""Some failures of a complete run are the run's, not the code's. Which those are is found by looking a second time.

Six thousand tests with real servers, tokens, kills and clocks share two processors; now and then one meets a chance that
its author did not think of. So when few tests failed, they are run again, alone. What fails again has failed. What passes then
is named at the end of the run as unsteady: a defect of the test, or of the product, that is to be found; it does not hold up
the change that happened to meet it.

Nothing is excused where a second look would prove nothing: failures in a teardown (the relying parties' verdict on all that the run
made falls there), processes that crashed, failures in more than a few files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

MOST_FILES: Final = 3
MOST_TESTS: Final = 6
PHASES: Final = frozenset({"setup", "call"})


class Record:
    """Writes what failed to a file: "phase node-id" per line. On the process that collects the reports."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(f"{report.when} {report.nodeid}")

    def pytest_sessionfinish(self) -> None:
        self._file.write_text("".join(f"{line}\n" for line in self._failed))


def excusable(lines: list[str]) -> list[str]:
    """The node ids that may be looked at again; none if any failure is of a kind that may not."""
    phases = {line.partition(" ")[0] for line in lines}
    tests = list(dict.fromkeys(line.partition(" ")[2] for line in lines))
    files = {test.partition("::")[0] for test in tests}
    if not tests or not phases <= PHASES or len(files) > MOST_FILES or len(tests) > MOST_TESTS:
        return []
    return tests


def main(arguments: list[str]) -> int:
    """`FILE [pytest arguments]`: look again at what FILE lists. 0 if all of it passes now."""
    file, *options = arguments
    tests = excusable(Path(file).read_text().splitlines())
    if not tests:
        return 1
    print(f"==> second look at {len(tests)} failed", flush=True)
    chosen = Path(file).with_suffix(".again")
    chosen.write_text("".join(f"{test}\n" for test in tests))
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-n", "0", *options, f"@{chosen}"]
    code = subprocess.run(command, env=os.environ, check=False).returncode
    chosen.unlink()
    if code == 0:
        print("==> UNSTEADY: failed in the complete run and passed alone; find out why:", flush=True)
        for test in tests:
            print(f"      {test}", flush=True)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
