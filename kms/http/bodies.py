"""Reading request bodies off the wire, before any thread or operation is involved.

A body costs memory while it arrives, and anybody may send one. Small ones are free; larger ones draw on
a budget of the worker, and each has a deadline, so dribbling clients cannot hold either (T-57).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kms.errors import ErrorKind, KmsError
from kms.http.vault.body import MAX_BODY_BYTES, too_large

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

SMALL_BYTES = 128 * 1024
BUDGET_BYTES = 4 * MAX_BODY_BYTES
DEADLINE_SECONDS = 30.0


class Bodies:
    """The body budget of one worker. Lives on its event loop; not for threads."""

    def __init__(self, budget: int = BUDGET_BYTES, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._free = budget
        self._deadline_seconds = deadline_seconds

    async def read(self, receive: Receive, declared: int) -> bytes:
        """The whole body.

        Args:
            receive: the ASGI callable of this request.
            declared: Content-Length, or -1 for a chunked body.

        Raises:
            KmsError(TOO_LARGE): over 32 MiB (413). KmsError(INVALID): the client went away or did not
                finish in time (408). KmsError(RATE_LIMITED): too many large bodies at once (503).
        """
        if declared > MAX_BODY_BYTES:
            raise too_large()
        message = await receive()
        first: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False):
            return _bounded(first)
        if message["type"] != "http.request":
            raise _timeout()
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await self._rest(receive, first, declared)
        except TimeoutError:
            raise _timeout() from None

    async def _rest(self, receive: Receive, first: bytes, declared: int) -> bytes:
        body = bytearray(first)
        reserved = self._reserve(declared) if declared > SMALL_BYTES else 0
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise _timeout()
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if not reserved and len(body) > SMALL_BYTES:
                    reserved = self._reserve(MAX_BODY_BYTES)  # chunked: it may become the largest
                if len(body) > MAX_BODY_BYTES:
                    raise too_large()
            return bytes(body)
        finally:
            self._free += reserved

    def _reserve(self, size: int) -> int:
        if size > self._free:
            raise KmsError(
                ErrorKind.RATE_LIMITED, "too many large requests at once; try again shortly", status=503
            )
        self._free -= size
        return size


def _bounded(body: bytes) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise too_large()
    return body


def _timeout() -> KmsError:
    return KmsError(ErrorKind.INVALID, "the request body did not arrive in time", status=408)
