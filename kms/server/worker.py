"""gunicorn's asgi worker, told apart in three things: how it starts, what it tells, and how it ends.

It serves with `kms.server.connection`, tells the shared page when it does, and ends itself when the
application says that it holds what it must forget (a seal).
"""

# mypy: allow-untyped-calls
# gunicorn has no types.

from __future__ import annotations

import asyncio
import os
from typing import Any

from gunicorn.asgi.lifespan import LifespanManager, LifespanStartupFailed
from gunicorn.workers.gasgi import ASGIWorker

from kms.oplog import OperatorLog
from kms.server.connection import Connection

BACKLOG = 2048
HANDSHAKE_SECONDS = 10.0
FRESH_SECONDS = 1.0
FRESH_TURNS = 20
BOOT_FAILED = 3  # gunicorn stops its arbiter on this exit code instead of forking for ever
_TICK_SECONDS = 0.25
_HEARTBEAT_TICKS = 4


class Worker(ASGIWorker):
    """One worker process. `app.wsgi()` is a `kms.server.web.Application`'s ASGI callable."""

    loop: Any
    app: Any
    lifespan: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()

    async def _serve(self) -> None:
        self.lifespan = LifespanManager(self.asgi, self.log, self.state)
        try:
            await self.lifespan.startup()
        except (LifespanStartupFailed, RuntimeError):
            self.lifespan = None
            raise SystemExit(BOOT_FAILED) from None
        await self._listen()
        self.app.shared.announce()
        try:
            await self._watch()
        finally:
            self.app.shared.withdraw(os.getpid())
            await self._part()
            await self._shutdown()

    async def _listen(self) -> None:
        context = self._get_ssl_context()
        if self.cfg.is_ssl and context is None:
            OperatorLog(role="worker").write(
                "error", "tls_failed", detail="cannot load tls.certificate and tls.key; do they match?"
            )
            raise SystemExit(BOOT_FAILED)
        extra = {"ssl_handshake_timeout": HANDSHAKE_SECONDS} if context is not None else {}
        for listener in self.sockets:
            server = await self.loop.create_server(
                lambda: Connection(self), sock=listener.sock, ssl=context, backlog=1, **extra
            )
            # asyncio takes up to `backlog` connections at a time: with 1, workers share them evenly.
            listener.sock.listen(BACKLOG)
            self.servers.append(server)

    async def _part(self) -> None:
        """Take no new connection and let go of the idle ones.

        Clients keep connections open for long; only those with a request are worth waiting for, and, for
        a moment, those that were made just now and have not sent one.
        """
        for server in self.servers:
            server.close()
        for _ in range(FRESH_TURNS):
            for connection in list(self.connections):
                if connection.idle and not connection.fresh:
                    connection.transport.close()
            if not any(connection.fresh for connection in self.connections):
                return
            await asyncio.sleep(FRESH_SECONDS / FRESH_TURNS)
        for connection in list(self.connections):
            if connection.idle:
                connection.transport.close()

    async def _watch(self) -> None:
        """Heartbeat for the arbiter, and the ways to end."""
        ticks = 0
        while self.alive:
            if ticks % _HEARTBEAT_TICKS == 0:
                self.notify()
            ticks += 1
            if self.ppid != os.getppid():
                return
            if self.app.asgi.leaving():
                self.alive = False
                return
            await asyncio.sleep(_TICK_SECONDS)
