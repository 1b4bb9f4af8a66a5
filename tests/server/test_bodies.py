"""Reading bodies: deadlines and the budget, without waiting for either."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from kms.errors import KmsError
from kms.http.bodies import SMALL_BYTES, Bodies
from kms.http.vault.body import MAX_BODY_BYTES
from kms.http.vault.errors import render_error


class Client:
    """Sends the given pieces, then nothing more unless told to end."""

    def __init__(self, *pieces: bytes, end: bool = True, gone: bool = False, pause: float = 0.0) -> None:
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": not end or i < len(pieces) - 1}
            for i, piece in enumerate(pieces)
        ]
        if gone:
            self._messages.append({"type": "http.disconnect"})
        self._pause = pause

    async def __call__(self) -> MutableMapping[str, Any]:
        await asyncio.sleep(self._pause)
        if not self._messages:
            await asyncio.sleep(60)
        return self._messages.pop(0)


def _read(client: Client, declared: int, bodies: Bodies | None = None) -> bytes:
    return asyncio.run((bodies or Bodies()).read(client, declared))


@pytest.mark.parametrize("pieces", [(b"abc",), (b"a", b"bc"), (b"", b"abc", b"")])
def test_whole(pieces: tuple[bytes, ...]) -> None:
    assert _read(Client(*pieces), 3) == b"abc"


@pytest.mark.parametrize(
    "client",
    [Client(gone=True), Client(b"a", end=False, gone=True), Client(b"a", end=False)],
    ids=["gone at once", "gone midway", "silent"],
)
def test_incomplete(client: Client) -> None:
    with pytest.raises(KmsError) as refusal:
        _read(client, 10, Bodies(deadline_seconds=0.1))
    assert refusal.value.status == 408


def test_one_byte_a_second_has_a_deadline_for_the_whole() -> None:
    """T-57: each piece comes in time, the body does not."""
    with pytest.raises(KmsError) as refusal:
        _read(Client(*[b"x"] * 1000, pause=0.01), 1000, Bodies(deadline_seconds=0.2))
    assert refusal.value.status == 408


def test_the_budget_is_given_back() -> None:
    bodies = Bodies(budget=2 * SMALL_BYTES + 2)
    large = SMALL_BYTES + 1
    for _ in range(5):
        assert len(_read(Client(b"x" * 10, b"x" * (large - 10)), large, bodies)) == large
    with pytest.raises(KmsError) as refusal:
        _read(Client(b"x", b"x"), 3 * SMALL_BYTES, bodies)
    assert refusal.value.status == 503
    assert ("Retry-After", "1") in render_error(refusal.value).headers
    assert len(_read(Client(b"x" * 10, b"x" * (large - 10)), large, bodies)) == large


def test_a_chunked_body_pays_when_it_grows() -> None:
    bodies = Bodies(budget=SMALL_BYTES)
    assert len(_read(Client(b"x" * 100, b"x" * 100), -1, bodies)) == 200
    with pytest.raises(KmsError) as refusal:
        _read(Client(b"x" * SMALL_BYTES, b"x" * 10), -1, bodies)
    assert refusal.value.status == 503


@pytest.mark.parametrize("declared", [MAX_BODY_BYTES + 1, 10**30])
def test_too_large(declared: int) -> None:
    with pytest.raises(KmsError) as refusal:
        _read(Client(b"x"), declared)
    assert refusal.value.kind == "too_large"
