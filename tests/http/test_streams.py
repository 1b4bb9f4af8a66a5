"""Answers without an end, on an event loop of their own: each way to end, and a client that does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from kms.http.streams import MAX_STREAMS, Streams

LAST = {"type": "http.response.body", "body": b"", "more_body": False}


class Pieces:
    """These, then nothing new; None among them is the end."""

    def __init__(self, *pieces: bytes | None) -> None:
        self._left = list(pieces)

    def take(self) -> bytes | None:
        return self._left.pop(0) if self._left else b""


class Client:
    """Reads everything, or nothing."""

    def __init__(self, *, reads: bool = True) -> None:
        self.got: list[MutableMapping[str, Any]] = []
        self.gone = asyncio.Event()
        self.asked = asyncio.Event()
        self.aborted = False
        self._reads = reads

    async def receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.asked.set()
        if not self._reads:
            await asyncio.Event().wait()
        self.got.append(message)

    def abort(self) -> None:
        self.aborted = True

    def task(self, streams: Streams, pieces: Pieces) -> asyncio.Task[None]:
        return asyncio.ensure_future(streams.run(pieces, self.receive, self.send, self.abort))


async def _by_itself() -> None:
    client = Client()
    await client.task(Streams(), Pieces(b"a", b"", b"b", None))
    assert [message["body"] for message in client.got] == [b"a", b"b", b""]
    assert client.got[-1] == LAST


async def _client_leaves() -> None:
    streams, client = Streams(), Client()
    task = client.task(streams, Pieces(b"a"))
    await client.asked.wait()
    client.gone.set()
    await task
    assert not client.aborted


async def _worker_parts() -> None:
    streams, client = Streams(), Client()
    task = client.task(streams, Pieces(b"a"))
    await client.asked.wait()
    streams.end()
    await task
    assert client.got[-1] == LAST
    assert streams.refusal() is not None


async def _slow_one_is_cut_off_and_holds_up_nobody() -> None:
    streams, slow, quick = Streams(), Client(reads=False), Client()
    stuck = slow.task(streams, Pieces(b"a"))
    await slow.asked.wait()
    await quick.task(streams, Pieces(b"a", None))
    assert not stuck.done()
    streams.end()
    await stuck
    assert slow.aborted
    assert slow.got == []


async def _so_many_and_no_more() -> None:
    streams, clients = Streams(), [Client() for _ in range(MAX_STREAMS)]
    tasks = []
    for client in clients:
        assert streams.refusal() is None
        tasks.append(client.task(streams, Pieces(b"a")))
        await client.asked.wait()
    refusal = streams.refusal()
    assert refusal is not None
    assert refusal.status == 503
    clients[0].gone.set()
    await tasks[0]
    assert streams.refusal() is None
    streams.end()
    await asyncio.gather(*tasks)


async def _a_defect_of_the_stream_is_not_hidden() -> None:
    class Broken(Pieces):
        def take(self) -> bytes | None:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await Client().task(Streams(), Broken())


@pytest.mark.parametrize(
    "case",
    [
        _by_itself,
        _client_leaves,
        _worker_parts,
        _slow_one_is_cut_off_and_holds_up_nobody,
        _so_many_and_no_more,
        _a_defect_of_the_stream_is_not_hidden,
    ],
)
def test_streams(case: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(case(), 30)

    asyncio.run(run())
