"""gunicorn's asgi worker with the bounds it lacks: connections, a deadline for headers, a way out.

Two small subclasses. `_Protocol` closes connections beyond the limit and those that do not finish their
first request head in time (gunicorn only times idle kept-alive ones), and answers refusals of its parser
in the API's own form. `Worker` serves with it, tells the shared page when it does, and ends itself when
the application says that it holds what it must forget (a seal).
"""

# mypy: allow-untyped-calls
# gunicorn has no types.

from __future__ import annotations

import asyncio
import os
from typing import Any

from gunicorn.asgi.lifespan import LifespanManager, LifespanStartupFailed
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers.gasgi import ASGIWorker

from kms.http.vault.render import encode
from kms.oplog import OperatorLog

BACKLOG = 2048
HEAD_SECONDS = 10.0
HANDSHAKE_SECONDS = 10.0
FRESH_SECONDS = 1.0
FRESH_TURNS = 20
BOOT_FAILED = 3  # gunicorn stops its arbiter on this exit code instead of forking for ever
_TICK_SECONDS = 0.25
_HEARTBEAT_TICKS = 4
_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large"}


class _Protocol(ASGIProtocol):
    """One connection."""

    transport: Any
    worker: Any
    req_count: int
    _awaiting_request: bool
    _request_ready: Any
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.worker.nr_conns > self.cfg.worker_connections:
            transport.abort()
            return
        self.worker.connections.add(self)
        self._head_timer = self.worker.loop.call_later(HEAD_SECONDS, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    @property
    def fresh(self) -> bool:
        """Whether the first request has not come yet."""
        return self.req_count <= 1 and self.idle

    @property
    def idle(self) -> bool:
        """Whether no request is being served; one that is closes its connection itself at a stop."""
        return bool(self._awaiting_request and not self._request_ready.is_set())

    def _on_headers_complete(self) -> Any:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        return super()._on_headers_complete()

    def _head_late(self) -> None:
        self._head_timer = None
        self.transport.abort()

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        """The parser's refusals, in the form of every other error and without quoting the request."""
        del message, extra_headers
        reason = _REASONS.get(status, "Bad Request" if status < 500 else "Not Implemented")
        body = encode({"errors": [f"malformed HTTP request: {reason.lower()}"]}) + b"\n"
        head = (
            f"HTTP/1.1 {status} {reason}\r\nCache-Control: no-store\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._safe_write(head.encode("latin-1") + body)


class Worker(ASGIWorker):
    """One worker process. `app.wsgi()` is a `kms.server.web.Application`'s ASGI callable."""

    loop: Any
    app: Any
    lifespan: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[_Protocol] = set()

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
                lambda: _Protocol(self), sock=listener.sock, ssl=context, backlog=1, **extra
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
