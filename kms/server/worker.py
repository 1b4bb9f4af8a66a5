"""gunicorn's asgi worker, told apart in three things: how it starts, what it tells, and how it ends.

It serves with `kms.server.connection`, tells the shared page when it does, and ends itself when the
application says that it holds what it must forget (a seal).
"""

# mypy: allow-untyped-calls
# gunicorn has no types.

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from gunicorn.asgi.lifespan import LifespanManager, LifespanStartupFailed
from gunicorn.workers.gasgi import ASGIWorker

from kms.config import split_address
from kms.http.documents import DocumentsOnly
from kms.oplog import OperatorLog
from kms.server.admission import Admission, Place
from kms.server.connection import Connection

HANDSHAKE_SECONDS = 10.0
FRESH_SECONDS = 1.0
FRESH_TURNS = 20
SHAKE_SECONDS = 3.0
GARBAGE_AFTER = 20_000  # objects; a request leaves few in cycles, and Python looks after 700
BOOT_FAILED = 3  # gunicorn stops its arbiter on this exit code instead of forking for ever
_TICK_SECONDS = 0.25
_HEARTBEAT_TICKS = 4


class Worker(ASGIWorker):
    """One worker process. `app.wsgi()` is a `kms.server.web.Application`'s ASGI callable."""

    loop: Any
    app: Any
    lifespan: Any
    nr_conns: int
    admission: Admission

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()
        # Accepted, and still in the TLS handshake. One that fails there says nothing, and is collected.
        self.shaking: WeakSet[Connection] = WeakSet()
        self._told = asyncio.Event()  # to end

    def handle_exit_signal(self) -> None:
        super().handle_exit_signal()
        self._told.set()

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._told.set()

    async def _serve(self) -> None:
        self.lifespan = LifespanManager(self.asgi, self.log, self.state)
        try:
            await self.lifespan.startup()
        except (LifespanStartupFailed, RuntimeError):
            self.lifespan = None
            raise SystemExit(BOOT_FAILED) from None
        _spare_the_collector()
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
        documents = self.app.config.documents
        places: list[Place] = []
        for listener in self.sockets:
            plain = documents is not None and listener.sock.getsockname()[:2] == split_address(
                documents.listen
            )
            places.append(
                Place(
                    listener.sock,
                    self._accepted_plain if plain else self._accepted,
                    {} if plain else {"ssl": context, **extra},
                )
            )
        self.admission = Admission(places, self.cfg.worker_connections, self.app.shared)
        await self.admission.open()

    def _accepted(self) -> Connection:
        connection = Connection(self)
        connection.accepted_at = self.loop.time()
        self.shaking.add(connection)
        return connection

    def _accepted_plain(self) -> Connection:
        connection = self._accepted()
        connection.app = DocumentsOnly(self.app.asgi)
        return connection

    def _still_coming(self) -> bool:
        """Whether a client has connected just now and not had the chance to send its request."""
        begun = self.loop.time() - SHAKE_SECONDS
        return any(connection.fresh for connection in self.connections) or any(
            connection.accepted_at > begun for connection in self.shaking
        )

    async def _part(self) -> None:
        """Take no new connection and let go of the idle ones.

        Clients keep connections open for long; only those with a request are worth waiting for, and, for
        a moment, those that were made just now, or are being made, and have not sent one.
        """
        self.admission.close()
        self.app.asgi.part()
        began = self.loop.time()
        while True:
            # At least one turn: what was accepted before the close becomes a connection only now.
            await asyncio.sleep(FRESH_SECONDS / FRESH_TURNS)
            for connection in list(self.connections):
                if connection.idle and not connection.fresh:
                    connection.transport.close()
            patience = SHAKE_SECONDS if self.shaking else FRESH_SECONDS
            if not self._still_coming() or self.loop.time() - began > patience:
                break
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
            await self.admission.look(self.nr_conns)
            if self.ppid != os.getppid():
                return
            if self.app.asgi.leaving():
                self.alive = False
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), _TICK_SECONDS)


def _spare_the_collector() -> None:
    """What the start made lives as long as the process: no search for garbage need go through it."""
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 10, 10)
