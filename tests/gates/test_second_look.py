"""What a second look may excuse, and what not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gates.sources import TOP
from tests.harness.secondlook import MOST_TESTS, excusable


def test_few_failures_of_tests_are_looked_at_again() -> None:
    assert excusable(["call tests/a.py::test_one[x y]", "setup tests/b.py::test_two"]) == [
        "tests/a.py::test_one[x y]",
        "tests/b.py::test_two",
    ]
    assert excusable(["call tests/a.py::test", "call tests/a.py::test"]) == ["tests/a.py::test"]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["teardown tests/a.py::test"],
        ["call tests/a.py::test", "??? tests/b.py::test"],
        [f"call tests/{n}.py::test" for n in range(4)],
        [f"call tests/a.py::test[{n}]" for n in range(MOST_TESTS + 1)],
    ],
)
def test_nothing_else_is(lines: list[str]) -> None:
    assert excusable(lines) == []


def looked_again(folder: Path, *failed: str) -> tuple[int, str]:
    """The exit code of a second look at tests in `folder`, and what was printed."""
    (folder / "failed").write_text("".join(f"{line}\n" for line in failed))
    command = [sys.executable, "-m", "tests.harness.secondlook", "failed", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_what_fails_again_has_failed(tmp_path: Path) -> None:
    (tmp_path / "test_chance.py").write_text("def test():\n    pass\n")
    (tmp_path / "test_always.py").write_text("def test():\n    assert False\n")
    code, said = looked_again(tmp_path, "call test_chance.py::test")
    assert code == 0
    assert "UNSTEADY" in said
    code, said = looked_again(tmp_path, "call test_chance.py::test", "call test_always.py::test")
    assert code == 1
    assert "UNSTEADY" not in said
    assert looked_again(tmp_path, "teardown test_chance.py::test") == (1, "")
