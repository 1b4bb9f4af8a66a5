"""The ASGI application: hot calls bare on the event loop, everything else through Flask in a thread.

A hot call (`Operation.runs` is inline and its `inline_if` agrees) takes microseconds: a thread switch
would cost more than the work. What may block runs in a bounded pool; when that is full, callers get 503
at once instead of a queue without end. Calls whose time goes mostly into a commit run on the event loop up to it,
and share it (kms.together).

A server that has the whole request in hand may call `hot` instead of the ASGI interface: it answers such
a call in one synchronous step, and says None for every other.

The application is built in `lifespan.startup`, that is after the fork: an HSM session or a database
connection must not cross one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from a2wsgi.wsgi import WSGIMiddleware

from kms.errors import ErrorKind, KmsError
from kms.http.bodies import SMALL_BYTES, Bodies, Receive
from kms.http.chains import Chain
from kms.http.crew import Crew, Done
from kms.http.crossorigin import Added, Rule, judge
from kms.http.flask_app import PREPARED, make_flask
from kms.http.signin import SignIn
from kms.http.signin.request import MAX_BODY
from kms.http.streams import ABORT, Streams
from kms.http.vault.body import too_large
from kms.http.vault.door import Door, Prepared, Rendered, Routed
from kms.http.vault.errors import render_error
from kms.operation import Release, Runs, Stream
from kms.oplog import Contained, OperatorLog
from kms.together import Gathering

Scope = MutableMapping[str, Any]
Header = tuple[bytes, bytes]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

POOL_THREADS = 8
# They wait for one disk: the more wait together, the more share a sync (kms.storage.group). Those that do not wait
# only pass the interpreter to and fro, so no more than that needs.
DIRECT_THREADS = 8
ASIDE_THREADS = 4  # for the slow parts of calls that are taken together
POOL_QUEUE = 128


class Waits:
    """What `hot` says of a call whose answer comes later."""


WAITS: Final = Waits()

CHAIN = "keystead.chain"
"""Where a scope holds what the peer presented in its TLS handshake, if anything."""

_JSON = b"application/json"
_SERVER = (b"Server", b"keystead")
_NO_STORE = (b"Cache-Control", b"no-store")
_HSTS = (b"Strict-Transport-Security", b"max-age=31536000; includeSubDomains")


@dataclass(frozen=True)
class Served:
    """What a worker serves, and how it ends.

    Args:
        close: flushes and closes the parts; called once, when no request runs any more.
        leaving: whether the process must end because it holds what it must forget.
        cross_origin: which web pages may read answers.
        sign_in: the page for people, if there is one.
    """

    door: Door
    close: Callable[[], None]
    leaving: Callable[[], bool]
    cross_origin: Rule
    sign_in: SignIn | None = None


class Asgi:
    """The application of one worker.

    Args:
        boot: builds the parts; KmsError means "this worker cannot start", and its detail says why.
        failed: told the sentence of a failed start.
    """

    def __init__(self, boot: Callable[[], Served], failed: Callable[[KmsError], None]) -> None:
        self._boot = boot
        self._failed = failed
        self._served: Served | None = None
        self._door: Door | None = None
        self._cross_origin: Rule | None = None
        self._sign_in: SignIn | None = None
        self._bodies = Bodies()
        self._pool: WSGIMiddleware | None = None
        self._crew: Crew | None = None
        self._gathering: Gathering | None = None
        self._streams = Streams()
        self._waiting = 0
        self._log = OperatorLog(role="worker")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request, or the life of the worker."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003})

    def leaving(self) -> bool:
        """Whether this process must end."""
        return self._served is not None and self._served.leaving()

    def part(self) -> None:
        """The worker takes its leave: what has no end of its own ends now."""
        self._streams.end()

    def hot(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: list[Header],
        body: bytes,
        peer: str,
        done: Done,
        *,
        chain: Chain = (),
    ) -> Rendered | Waits | None:
        """Answer at once; or `WAITS`, and `done` gets the answer; None: this call has to come by `__call__`."""
        door, rule = self._door, self._cross_origin
        if door is None or rule is None or SignIn.concerns(method, raw_path, headers):
            return None
        added = judge(rule, method, headers)
        if not added:
            return self._hot(door, method, raw_path, query, headers, body, peer, done=done, chain=chain)
        if isinstance(added, Rendered):
            return added
        told = partial(_tell, done, added)
        answer = self._hot(door, method, raw_path, query, headers, body, peer, done=told, chain=chain)
        return _with(answer, added) if isinstance(answer, Rendered) else answer

    def _hot(
        self,
        door: Door,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: list[Header],
        body: bytes,
        peer: str,
        *,
        done: Done,
        chain: Chain,
    ) -> Rendered | Waits | None:
        prepared: Prepared | Rendered | None = None
        with Contained(self._log, "request_crashed"):
            routed = door.route(method, raw_path, query, headers)
            if isinstance(routed, Rendered):
                return routed
            if routed.operation.runs is Runs.POOL or routed.operation.release is Release.STREAM:
                return None
            prepared = door.prepare(routed, headers, body, peer, chain)
            if isinstance(prepared, Rendered):
                return prepared
            inline = prepared.inline and not door.waits
            return door.run(prepared) if inline else self._in_thread(door, prepared, done)
        return door.crashed(prepared if isinstance(prepared, Prepared) else None)

    def is_document(self, method: str, raw_path: bytes, query: bytes) -> bool:
        """Whether a request is for something that may leave over plain HTTP."""
        door = self._door
        with Contained(self._log, "request_crashed"):
            routed = door.route(method, raw_path, query) if door is not None else None
            return (
                isinstance(routed, Routed)
                and routed.match is not None
                and routed.match.compiled.route.document
            )
        return False

    def _in_thread(self, door: Door, prepared: Prepared, done: Done) -> Rendered | Waits:
        if self._crew is None or not self._admitted():
            return _busy()
        # An audit device may take its time, which is nobody else's.
        together = prepared.call.operation.runs is Runs.TOGETHER and not door.waits
        if together and self._gathering is not None:
            answer: Rendered | None = self._gathering.start(
                partial(door.contained, prepared), partial(self._left, done)
            )
            if answer is not None:
                self._waiting -= 1
                return answer
        else:
            self._crew.submit(partial(door.contained, prepared), partial(self._left, done))
        return WAITS

    def _left(self, done: Done, answer: Rendered) -> None:
        self._waiting -= 1
        done(answer)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._start(self._boot())
        except KmsError as error:
            self._failed(error)
            await send({"type": "lifespan.startup.failed", "message": error.detail})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _start(self, served: Served) -> None:
        self._served = served
        self._door = served.door
        self._cross_origin = served.cross_origin
        self._sign_in = served.sign_in
        flask: Any = make_flask(served.door)  # a2wsgi types the WSGI environment as its own TypedDict
        self._pool = WSGIMiddleware(flask, workers=POOL_THREADS)
        self._crew = Crew(DIRECT_THREADS, asyncio.get_running_loop())
        self._gathering = Gathering(asyncio.get_running_loop(), ASIDE_THREADS)

    def _stop(self) -> None:
        if self._gathering is not None:
            self._gathering.close()
        if self._crew is not None:
            self._crew.close()
        if self._pool is not None:
            self._pool.executor.shutdown(wait=True)
        if self._served is not None:
            self._served.close()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self._door
        if door is None:
            raise RuntimeError("a request arrived before lifespan.startup")
        if self._sign_in is not None and SignIn.concerns(
            scope["method"], scope["raw_path"], scope["headers"]
        ):
            await send_answer(scope, send, await self._page(self._sign_in, door, scope, receive))
            return
        added = judge(self._cross_origin, scope["method"], scope["headers"]) if self._cross_origin else ()
        if isinstance(added, Rendered):
            await send_answer(scope, send, added)
            return
        if added:
            send = _adding(send, added)
        answer: Rendered | None = None
        prepared: Prepared | Rendered | None = None
        with Contained(self._log, "request_crashed"):
            routed = door.route(scope["method"], scope["raw_path"], scope["query_string"], scope["headers"])
            prepared = (
                routed if isinstance(routed, Rendered) else await self._prepare(door, scope, receive, routed)
            )
            if isinstance(prepared, Rendered):
                answer = prepared
            elif prepared.inline and not door.waits:
                answer = door.run(prepared)
            else:
                await self._pooled(scope, receive, send, prepared)
                return
        if answer is None:
            answer = door.crashed(prepared if isinstance(prepared, Prepared) else None)
        await send_answer(scope, send, answer)

    async def _page(self, sign_in: SignIn, door: Door, scope: Scope, receive: Receive) -> Rendered:
        """A page for a person: like a login, it waits, so in a thread."""
        declared = _declared(scope["headers"])
        if declared > MAX_BODY:
            return render_error(too_large())
        try:
            body = await self._bodies.read(receive, declared) if declared else b""
        except KmsError as error:
            return render_error(error)
        if len(body) > MAX_BODY:
            return render_error(too_large())
        if not self._admitted():
            return _busy()
        client = scope["client"]
        try:
            with Contained(self._log, "request_crashed"):
                return await asyncio.to_thread(
                    sign_in.handle,
                    scope["method"],
                    scope["raw_path"],
                    scope["query_string"],
                    list(scope["headers"]),
                    body,
                    client[0] if client else "",
                    secure=scope["scheme"] == "https",
                )
        finally:
            self._waiting -= 1
        return door.crashed()

    async def _prepare(
        self, door: Door, scope: Scope, receive: Receive, routed: Routed
    ) -> Prepared | Rendered:
        headers, client = scope["headers"], scope["client"]
        peer, chain = client[0] if client else "", scope.get(CHAIN, ())
        declared = _declared(headers)
        if not declared:
            return door.prepare(routed, headers, b"", peer, chain)
        try:
            body = await self._bodies.read(receive, declared)
        except KmsError as error:
            return render_error(error)
        if len(body) <= SMALL_BYTES:
            return door.prepare(routed, headers, body, peer, chain)
        # Even parsing a large body is too much for the event loop.
        if not self._admitted():
            return _busy()
        try:
            return await asyncio.to_thread(door.prepare, routed, headers, body, peer, chain)
        finally:
            self._waiting -= 1

    async def _pooled(self, scope: Scope, receive: Receive, send: Send, prepared: Prepared) -> None:
        if self._door is not None and prepared.call.operation.runs is not Runs.POOL:
            later: asyncio.Future[Rendered] = asyncio.get_running_loop().create_future()
            answer = self._in_thread(self._door, prepared, partial(_settle, later))
            done = answer if isinstance(answer, Rendered) else await later
            if done.stream is None:
                await send_answer(scope, send, done)
            else:
                await self._streamed(scope, receive, send, done.stream, done)
            return
        if self._pool is None or not self._admitted():
            await send_answer(scope, send, _busy())
            return
        scope = {**scope, PREPARED: prepared}
        try:
            await self._pool(scope, _no_body, send)  # type: ignore[arg-type]  # a2wsgi types its own dicts
        finally:
            self._waiting -= 1

    async def _streamed(
        self, scope: Scope, receive: Receive, send: Send, stream: Stream, answer: Rendered
    ) -> None:
        refusal = self._streams.refusal()
        if refusal is not None:
            await send_answer(scope, send, refusal)
            return
        headers = response_headers(answer, scope["scheme"] == "https")
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._streams.run(stream, receive, send, scope.get(ABORT, _nothing))

    def _admitted(self) -> bool:
        if self._waiting >= POOL_QUEUE:
            return False
        self._waiting += 1
        return True


def _with(answer: Rendered, added: Added) -> Rendered:
    # A new one: refusals may be shared.
    return Rendered(answer.status, answer.body, answer.content_type, (*answer.headers, *added))


def _tell(done: Done, added: Added, answer: Rendered) -> None:
    done(_with(answer, added))


def _adding(send: Send, added: Added) -> Send:
    """`send`, and headers with the first message."""
    more = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in added]

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


def _settle(later: asyncio.Future[Rendered], answer: Rendered) -> None:
    if not later.cancelled():  # the client has gone
        later.set_result(answer)


def _nothing() -> None:
    """A server without a way to cut a connection off."""


async def _no_body() -> MutableMapping[str, Any]:
    """The body is part of the prepared call already."""
    return {"type": "http.request", "body": b"", "more_body": False}


def _declared(headers: list[Header]) -> int:
    """Content-Length, -1 for a chunked body, 0 for none. The parser has refused contradictions."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            return -1
    return 0


def _busy() -> Rendered:
    return render_error(KmsError(ErrorKind.RATE_LIMITED, "the server is busy; try again shortly", status=503))


def response_headers(answer: Rendered, https: bool) -> list[Header]:
    """What leaves with every answer, and what this one adds."""
    kind = _JSON if answer.content_type == "application/json" else answer.content_type.encode("latin-1")
    headers = [(b"Content-Type", kind), _SERVER]
    if not any(name == "Cache-Control" for name, _ in answer.headers):
        headers.insert(0, _NO_STORE)
    if answer.status not in {204, 304} and answer.stream is None:
        headers.append((b"Content-Length", b"%d" % len(answer.body)))
    if https:
        headers.append(_HSTS)
    for name, value in answer.headers:
        headers.append((name.encode("latin-1"), value.encode("latin-1")))
    return headers


async def send_answer(scope: Scope, send: Send, answer: Rendered) -> None:
    """A finished answer as ASGI messages."""
    headers = response_headers(answer, scope["scheme"] == "https")
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
