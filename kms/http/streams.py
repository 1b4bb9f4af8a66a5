"""Answers without an end: the few connections of a worker that are told something from time to time.

They live on the event loop and hold no thread. One that does not read is waited for by its own task alone: what it
does not take stays where it was (a `Stream` keeps nothing for a reader), so it costs one full socket buffer.

    it ends when   the client leaves, the stream says so, or the worker parts (a stop, a seal, a reload);
                   whoever does not read at that moment is cut off
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from kms.errors import ErrorKind, KmsError
from kms.http.vault.errors import render_error
from kms.http.vault.route import Rendered
from kms.operation import Stream

MAX_STREAMS: Final = 8
"""Of a worker, at once."""
TURN_SECONDS: Final = 0.2

ABORT: Final = "keystead.abort"
"""Where a scope holds what cuts its connection off."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Streams:
    """Those of one worker. Used on its event loop only."""

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self._running = 0

    def end(self) -> None:
        """End all of them, and begin no more."""
        self._over.set()

    def refusal(self) -> Rendered | None:
        """Why no other stream may begin, if so."""
        if self._running < MAX_STREAMS and not self._over.is_set():
            return None
        sentence = (
            f"this worker has {MAX_STREAMS} streams under way, or is about to end; try again in a moment"
        )
        return render_error(KmsError(ErrorKind.RATE_LIMITED, sentence, status=503))

    async def run(self, stream: Stream, receive: Receive, send: Send, abort: Callable[[], None]) -> None:
        """Send what `stream` has, after the head of the answer, until one of the ends above.

        `receive` and `send` are the connection's, and `abort` cuts it off.
        """
        self._running += 1
        feed = _Feed(stream, send)
        tasks = [asyncio.ensure_future(each) for each in (feed.run(), _left(receive), self._over.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._running -= 1
            stuck = feed.sending
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        if stuck:
            abort()
            return
        for result in results:
            if isinstance(result, Exception):
                raise result
        last = (
            b"" if feed.finished else stream.take()
        )  # what was told until now, such as that a reload begins
        await send({"type": "http.response.body", "body": last or b"", "more_body": False})


class _Feed:
    """What goes out on one connection.

    Args:
        sending: whether it waits for the client to read.
        finished: whether the stream has said that it is over.
    """

    def __init__(self, stream: Stream, send: Send) -> None:
        self._stream = stream
        self._send = send
        self.sending = False
        self.finished = False

    async def run(self) -> None:
        """Until the stream is over."""
        while (piece := self._stream.take()) is not None:
            if not piece:
                await asyncio.sleep(TURN_SECONDS)
                continue
            self.sending = True
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            self.sending = False
            await asyncio.sleep(0)  # others have their turn, however much there is to tell
        self.finished = True


async def _left(receive: Receive) -> None:
    """Until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
