"""Namespaces beside the real server: the same requests, the same answers, or a difference that is listed here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.namespaces import bearers, drawn, people, places
from tests.namespaces.allowed import OTHERWISE, Otherwise, allowed
from tests.namespaces.play import Play
from tests.namespaces.sides import Side, ours, prepare, theirs

LEAST = 2_000
ACTS = (
    places.of_namespaces,
    places.headers,
    places.server_wide,
    bearers.tokens,
    bearers.policies,
    places.mounts,
    bearers.wrapping,
    people.entities,
    people.groups,
    people.provider,
    people.factors,
    people.lockout,
    places.quotas,
    places.locks,
    bearers.leases,
    drawn.drawn,
)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """The real server and this one, prepared."""
    with theirs() as peer, ours(tmp_path_factory.mktemp("namespaces")) as own:
        for side in (peer, own):
            prepare(side)
        yield peer, own


@pytest.mark.slow
def test_both_servers_answer_alike(sides: tuple[Side, Side]) -> None:
    different, compared, met = [], 0, set[Otherwise]()
    for act in ACTS:
        plays = [Play(side) for side in sides]
        for play in plays:
            act(play)
        for (what, their), (_, our) in zip(plays[0].told, plays[1].told, strict=True):
            compared += 1
            if their == our:
                continue
            entry = allowed(what, their, our)
            if entry is None:
                different.append(f"\n{act.__name__}: {what}\n   peer {their}\n   ours {our}")
            else:
                met.add(entry)
    print(f"{compared} answers compared, {len(different)} differ", *different, sep="")
    assert not different
    assert met == set(OTHERWISE), "an entry that no answer needs"
    assert compared >= LEAST
