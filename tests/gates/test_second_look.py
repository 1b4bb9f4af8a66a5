"""What a second look may excuse, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import secondlook
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


def test_what_fails_again_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, always = tmp_path / "test_chance.py", tmp_path / "test_always.py"
    chance.write_text("def test():\n    pass\n")
    always.write_text("def test():\n    assert False\n")
    monkeypatch.chdir(tmp_path)
    failed = tmp_path / "failed"
    failed.write_text(f"call {chance}::test\n")
    assert secondlook.main([str(failed), "-p", "no:cacheprovider"]) == 0
    failed.write_text(f"call {chance}::test\ncall {always}::test\n")
    assert secondlook.main([str(failed), "-p", "no:cacheprovider"]) == 1
    failed.write_text(f"teardown {chance}::test\n")
    assert secondlook.main([str(failed)]) == 1
