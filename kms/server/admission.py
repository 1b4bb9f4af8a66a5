"""Who takes the next connection: never a worker that is full, while another has room.

All workers accept from one socket, whoever is quickest, so one can be full long before the others. What it accepted then it
could only close, and clients would be refused by a server that has room. So a full worker stops accepting. Only when all are full
does one go on, to close at once what comes on top: waiting without an end helps nobody.

Each worker says in the shared page whether it is full. A worker that has room again, or learns that all are full now, accepts
again within a quarter of a second.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kms.shared import Shared

BACKLOG: Final = 2048
LATE: Final = 8
"""So many may be on their way in when a worker stops accepting: they were accepted, and are served."""


class _Listener(socket.socket):
    """A copy of a listening socket, which asyncio may close, and whose queue stays as long as it is."""

    def listen(self, _backlog: int = BACKLOG, /) -> None:
        super().listen(BACKLOG)


@dataclass(frozen=True)
class Place:
    """Where connections come in.

    Args:
        socket: listens already; it stays open.
        factory: makes the protocol of a connection.
        tls: arguments of `loop.create_server`.
    """

    socket: socket.socket
    factory: Callable[[], asyncio.BaseProtocol]
    tls: dict[str, Any]


class Admission:
    """The accepting of one worker. Made and used on its event loop.

    Args:
        places: where connections come in.
        limit: how many it serves at once.
        shared: where workers tell each other that they are full.
    """

    def __init__(self, places: Sequence[Place], limit: int, shared: Shared) -> None:
        self._places = places
        self._limit = limit
        self._shared = shared
        self._full = False
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Accept (again)."""
        loop = asyncio.get_running_loop()
        for place in self._places:
            copy = _Listener(fileno=os.dup(place.socket.fileno()))
            # asyncio takes up to `backlog` connections at a time: with 1, workers share them evenly.
            self._servers.append(await loop.create_server(place.factory, sock=copy, backlog=1, **place.tls))

    def close(self) -> None:
        """Accept no more; what is accepted already is served.

        asyncio makes a connection one turn after it accepted it, and lets it fall (the client sees a reset) if its
        server was closed in between. So nothing is accepted from here on, and the server is closed a turn later.
        """
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())
            loop.call_soon(server.close)
        self._servers = []

    def welcome(self, count: int) -> bool:
        """Whether a connection that was made just now is served, as the `count`th of this worker."""
        self._tell(count)
        if self._full and self._servers and not self._shared.all_full():
            self.close()
        return count <= self._limit or (count <= self._limit + LATE and not self._shared.all_full())

    async def look(self, count: int) -> None:
        """Now and then: accept again when there is room, or when nobody has any."""
        self._tell(count)
        if not self._servers and (not self._full or self._shared.all_full()):
            await self.open()

    def _tell(self, count: int) -> None:
        full = count >= self._limit
        if full != self._full:
            self._full = full
            self._shared.set_full(full)
