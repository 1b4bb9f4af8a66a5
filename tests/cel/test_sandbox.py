"""A program can hang, bloat or crash only the process that it runs in, and sees whole values."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from kms.cel import Program, Sandbox, Variable, parse, patched
from kms.cel.program import MAX_EXPRESSION, MAX_VARIABLES
from kms.errors import KmsError

NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox()
    yield made
    made.close()


def run(sandbox: Sandbox, expression: str, request: dict[str, Any] | None = None, **variables: str) -> Any:
    program = Program(expression, tuple(Variable(name, text) for name, text in variables.items()))
    return sandbox.run("pki", program, {"request": request or {}, "now": NOW}).value


def child_of(sandbox: Sandbox) -> psutil.Process:
    assert sandbox._child is not None
    return psutil.Process(sandbox._child.pid)


def refusal(
    sandbox: Sandbox, expression: str, request: dict[str, Any] | None = None, **variables: str
) -> str:
    with pytest.raises(KmsError) as refused:
        run(sandbox, expression, request, **variables)
    assert refused.value.kind == "invalid"
    return refused.value.detail


DOUBLING = {f"v{n}": f"v{n - 1} + v{n - 1}" if n else "request.s" for n in range(40)}
NESTED = "[request.s].map(a, [a+a].map(b, [b+b].map(c, [c+c].map(d, [d+d].map(e, [e+e].map(f, [f+f].map(g, g)))))))"
# What is tried -> program, its variables, and a word of the refusal.
HOSTILE: dict[str, tuple[str, dict[str, str], str]] = {
    "iterations": ("lists.range(99).all(a, lists.range(99).all(b, lists.range(99).all(c, true)))", {}, "10,000"),
    "time": ("lists.range(9999).map(i, request.s.replace('x', 'yy').size()).size() > 3", {}, "processor time"),
    "memory": ("lists.range(9000).map(i, request.s + request.s).size() > 1", {}, "memory"),
    "one large list": ("lists.range(100000000).size() > 1", {}, "memory"),
    "doubling": ("'x'", DOUBLING, "at most"),
    "depth": ("(" * 100 + "1" + ")" * 100, {}, "recursion"),
    "a large answer": ("encode_json({'a': request.s + request.s + request.s + request.s + request.s + request.s})", {}, "too large"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_program_costs_its_request(sandbox: Sandbox, what: str) -> None:
    expression, variables, word = HOSTILE[what]
    assert word in refusal(sandbox, expression, {"s": "x" * 200_000}, **variables)
    assert run(sandbox, "'alive'") == "alive"


def test_a_regular_expression_is_linear(sandbox: Sandbox) -> None:
    assert run(sandbox, "request.s.matches('^(x+x+)+y$')", {"s": "x" * 200_000}) is False


def test_the_process_has_nothing_of_ours(sandbox: Sandbox) -> None:
    assert run(sandbox, "true") is True
    child = child_of(sandbox)
    assert "kms.cel.child" in child.cmdline()
    assert child.environ() == {}
    assert child.cwd() == "/"
    # Its three pipes, and nothing that the worker has open.
    kinds = [str(fd.readlink()) for fd in Path(f"/proc/{child.pid}/fd").iterdir()]
    assert all(kind.startswith("pipe:") or kind == "/dev/null" for kind in kinds), kinds
    assert child.rlimit(resource.RLIMIT_CORE) == (0, 0)
    assert child.rlimit(resource.RLIMIT_FSIZE) == (0, 0)


def test_a_killed_process_is_replaced(sandbox: Sandbox) -> None:
    assert run(sandbox, "true") is True
    child = child_of(sandbox)
    child.kill()
    child.wait(10)
    assert run(sandbox, "'again'") == "again"


def test_threads_take_turns(sandbox: Sandbox) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(len(run(sandbox, f"'{'x' * n}'")))) for n in range(1, 25)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 25))


@pytest.mark.parametrize("text", ["admin\0x", "\0", "a\ud800"])
def test_a_text_that_would_be_cut_off_is_refused(sandbox: Sandbox, text: str) -> None:
    """The evaluator's binding reads texts up to U+0000: `admin` and something would be `admin`."""
    assert "U+0000" in refusal(sandbox, "request.x", {"x": text})
    assert "U+0000" in refusal(sandbox, "request.x", {"x": ["a", {text: 1}]})


def test_values_keep_their_octets_and_types(sandbox: Sandbox) -> None:
    assert run(sandbox, "size(request.b) == 3 && request.b == b'a\\x00b'", {"b": b"a\0b"}) is True
    assert run(sandbox, "v == 'a\\x00b' && size(v) == 3", v="'a\\x00b'") is True
    assert run(sandbox, "v == b'a\\x00b'", v="b'a\\x00b'") is True
    assert run(sandbox, "v[0] == 5u && type(v[0]) == uint", v="[5u]") is True
    assert run(sandbox, "v.d == duration('1h')", v="{'d': duration('1h')}") is True
    assert "U+0000" in refusal(sandbox, "v", v="{'a\\x00': 1}")
    assert run(sandbox, "decode_json('\"a\\\\u0000b\"')") is False
    for index in range(3):
        assert run(sandbox, "request.n", {"n": f"name-{index}"}) == f"name-{index}"


def test_programs_are_bounded_before_they_are_stored() -> None:
    for raw in (
        {"expression": "x" * (MAX_EXPRESSION + 1)},
        {"expression": "x", "variables": [{"name": f"v{n}", "expression": "1"} for n in range(MAX_VARIABLES + 1)]},
        {"expression": "x", "variables": [{"name": f"v{n}", "expression": "1" * 16000} for n in range(5)]},
        {"expression": "x", "variables": [{"name": "a b", "expression": "1"}]},
        {"expression": ["x"]},
        {"expression": True},
        ["x"],
        None,
    ):  # fmt: skip
        with pytest.raises(KmsError):
            parse(raw)
    program = patched(parse({"expression": "a"}), {"variables": [{"name": "a", "expression": 5}]})
    assert program == Program("a", (Variable("a", "5"),))
