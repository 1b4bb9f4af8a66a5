"""Every transit path of the real server, each parameter wrong in turn: our answers are its answers, or allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tests.differential.generate import Generator, declared, setup
from tests.differential.rules import WANDERING, Comparison, load
from tests.differential.run import run
from tests.differential.sides import Request, Side, ours, theirs
from tests.differential.wander import Wanderer
from tests.harness.dev import DevServer

# May not fall; `scripts/differential` prints what is asked now.
GENERATED = 3_692
RANDOM = 600
SEED = 3


@pytest.fixture(scope="module")
def sides(server: DevServer) -> Iterator[tuple[Side, Side]]:
    with theirs() as their_side:
        our_side = ours(server)
        yield their_side, our_side
        our_side.client.close()


@pytest.mark.slow
def test_generated_and_random_requests_get_the_real_servers_answers(sides: tuple[Side, Side]) -> None:
    generated, wandered = Comparison(load()), Comparison([*load(), *load(WANDERING)])
    run(*sides, setup(), generated)
    run(*sides, Generator().all(), generated)
    print(f"generated: {generated.report()}")
    assert not generated.different, "\n".join(generated.different[:20])
    assert not generated.unused, "entries of allowed.toml that no request needs"
    assert generated.requests >= GENERATED
    source = Wanderer(SEED)
    run(*sides, islice(source.requests(), RANDOM), wandered, loose=True, mend=source.mend)
    print(f"random: {wandered.report()}")
    assert not wandered.different, "\n".join(wandered.different[:20])


def test_every_declared_path_is_asked_with_each_verb() -> None:
    paths = declared()
    assert len(paths) == 38
    for path in paths:
        asked = {request.verb for request in Generator().of(path)}
        assert asked >= set(path.verbs), path


@pytest.mark.parametrize(
    "answers",
    [
        ((200, {"data": {"a": 1}}), (200, {"data": {"b": 1}})),
        ((400, {"errors": ["one"]}), (400, {"errors": ["another"]})),
        ((204, None), (200, {"data": {}})),
        ((403, {"errors": ["permission denied"]}), (200, {"data": {}})),
        ((200, {"data": {"n": 1}}), (200, {"data": {"n": "1"}})),
    ],
)
def test_a_difference_is_found(answers: tuple[tuple[int, object], tuple[int, object]]) -> None:
    comparison = Comparison(load())
    comparison.add(Request("POST", "encrypt/k", {"plaintext": "YQ=="}), *answers)
    assert comparison.different
    assert not comparison.allowed


def test_an_entry_that_nothing_needs_is_found() -> None:
    comparison = Comparison(load())
    comparison.add(Request("POST", "hash"), (500, None), (400, None))
    assert comparison.allowed == {"client-fault": 1}
    assert "client-fault" not in comparison.unused
    assert len(comparison.unused) == len(load()) - 1


def test_a_request_is_the_same_for_the_same_seed() -> None:
    first, again, other = (list(islice(Wanderer(seed).requests(), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert replace(first[0]) == first[0]


def test_both_lists_have_reasons() -> None:
    for path in (WANDERING, WANDERING.with_name("allowed.toml")):
        assert isinstance(path, Path)
        assert all(rule.reason.endswith(".") for rule in load(path))
