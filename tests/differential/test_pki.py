"""Every pki path of the real server, each parameter wrong in turn: our answers are its answers, or allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.generate import declared
from tests.differential.pkigenerate import DECLARED, TTL, PkiGenerator, loose, standing
from tests.differential.pkishape import pki_shape
from tests.differential.rules import Comparison, load
from tests.differential.run import run
from tests.differential.sides import Side, ours, theirs
from tests.harness.dev import DevServer

ALLOWED = Path(__file__).parent / "pki_allowed.toml"
# May not fall; the test prints what is asked now.
GENERATED = 4_600


@pytest.fixture(scope="module")
def sides(server: DevServer) -> Iterator[tuple[Side, Side]]:
    with theirs() as their_side:
        our_side = ours(server)
        yield their_side, our_side
        our_side.client.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_generated_requests_get_the_real_servers_answers(sides: tuple[Side, Side]) -> None:
    comparison = Comparison(load(ALLOWED))
    for makes in (False, True):
        their_side, our_side = (side.beside("pki", **TTL) for side in sides)
        for requests in (standing(), PkiGenerator(makes=makes).all()):
            run(their_side, our_side, requests, comparison, form=pki_shape, loose=loose)
        # Its certificates are made to differ, not to be relied on.
        our_side.system("DELETE", f"sys/mounts/{our_side.mount}")
    print(f"generated: {comparison.report()}")
    assert not comparison.different, "\n".join(comparison.different[:20])
    assert not comparison.unused, "entries of pki_allowed.toml that no request needs"
    assert comparison.requests >= GENERATED


def test_every_declared_path_is_asked_with_each_verb() -> None:
    paths = declared(DECLARED)
    assert len(paths) == 72
