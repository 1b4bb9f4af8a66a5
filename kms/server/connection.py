"""One connection: gunicorn's HTTP/1.1 protocol with the bounds it lacks, and a short way for hot calls.

Bounds. Connections beyond the limit are closed where no worker has room (admission.py), and so are those that do not finish their first request
head in time (gunicorn only times idle kept-alive ones). Refusals of the parser have the form of every
other error.

The short way. gunicorn starts a task, two futures and five ASGI messages per request, which is more work
than most calls themselves. When a request is complete in hand, nothing else is under way on the
connection, and the application can answer it on the spot (`Asgi.hot`), it is answered right where the
parser delivered it, with one write. Everything else takes gunicorn's own way, untouched:

    (1) the head is complete: hold the request back, do not wake gunicorn's loop yet
    (2) after each piece of input: complete and answerable at once? answer, reset the parser, go on with
        what the client has sent behind it; a small body that is still on its way gets a moment;
        a call that must wait for a disk or an HSM is answered when its thread is done, and input
        that comes meanwhile stays in the parser
    (3) otherwise wake the loop, which goes on exactly as if nothing had been held

The parser, its limits and its refusals are gunicorn's on both ways (tests/server/test_wire.py).
"""

# mypy: allow-untyped-calls
# gunicorn has no types.

from __future__ import annotations

import asyncio
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol, _get_cached_date_header, _get_cached_status_line

from kms.http.asgi import CHAIN, WAITS, response_headers
from kms.http.bodies import SMALL_BYTES
from kms.http.streams import ABORT
from kms.http.vault.render import encode
from kms.http.vault.route import Rendered
from kms.server.tls import presented_chain

HEAD_SECONDS = 10.0
BODY_SECONDS = 0.5

_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large"}
_VERSION = (1, 1)


class Connection(ASGIProtocol):
    """One connection of a `kms.server.worker.Worker`."""

    transport: Any
    worker: Any
    app: Any
    req_count: int
    _awaiting_request: bool
    _request_ready: Any
    _current_request: Any
    _body_receiver: Any
    _callback_parser: Any
    _flow_control: Any
    _head_timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _held = False
    _busy = False  # a thread works on the request in hand
    _answered = 0
    _answered_at = 0.0
    accepted_at = 0.0  # of the loop's clock
    _peer = ""
    _chain: tuple[bytes, ...] = ()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.worker.shaking.discard(self)
        if not self.worker.admission.welcome(self.worker.nr_conns):
            transport.abort()
            return
        self.worker.connections.add(self)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        self._chain = presented_chain(transport.get_extra_info("ssl_object"))
        self._head_timer = self.worker.loop.call_later(HEAD_SECONDS, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self._body_timer is not None:
            self._body_timer.cancel()
        self.worker.connections.discard(self)
        super().connection_lost(exc)
        if self._request_ready is not None:
            self._request_ready.set()  # an idle loop ends now and not after the grace period

    @property
    def fresh(self) -> bool:
        """Whether the first request has not come yet."""
        return self.req_count <= 1 and not self._answered and self.idle

    @property
    def idle(self) -> bool:
        """Whether no request is being served; one that is closes its connection itself at a stop."""
        return bool(self._awaiting_request and not self._request_ready.is_set() and not self._busy)

    def _head_late(self) -> None:
        self._head_timer = None
        self.transport.abort()

    def _keepalive_timeout(self) -> None:
        # Answers on the short way do not touch gunicorn's timer: it looks when it fires instead.
        left = self._answered_at + self._keepalive - self.worker.loop.time()
        if self._busy:
            left = self._keepalive
        if left > 0:
            self._keepalive_handle = self.worker.loop.call_later(left, self._keepalive_timeout)
            return
        super()._keepalive_timeout()

    def _build_http_scope(self, request: Any, sockname: Any, peername: Any) -> Any:
        scope = super()._build_http_scope(request, sockname, peername)
        scope[CHAIN] = self._chain
        scope[ABORT] = self.transport.abort
        return scope

    # -- the short way ------------------------------------------------------------------------------

    def _on_headers_complete(self) -> Any:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        ready, self._request_ready = self._request_ready, None
        try:
            skip_body = super()._on_headers_complete()  # would wake the loop, if it found the event
        finally:
            self._request_ready = ready
        self._held = True  # (1)
        return skip_body

    def _feed_callback_parser(self, data: bytes) -> bool:
        good = bool(super()._feed_callback_parser(data))
        if self._busy:
            return good
        while good and self._held:
            behind = self._answer_now()  # (2)
            if behind is None:
                break
            good = not behind or bool(super()._feed_callback_parser(behind))
        if good and self._held and self._body_is_near():
            return True
        if self._held or not good:
            self._hand_over()  # (3); after a refusal the loop sees that it is over
        return good

    def _hand_over(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        self._held = False
        self._request_ready.set()

    def _body_is_near(self) -> bool:
        """Whether only the rest of a small body is missing: many clients send head and body apart."""
        request, receiver = self._current_request, self._body_receiver
        if (
            receiver._complete  # noqa: SLF001  (gunicorn keeps this here and offers no other look)
            or request.chunked
            or request.content_length > SMALL_BYTES
            or receiver.expect_continue
        ):
            return False
        if self._body_timer is None:
            self._body_timer = self.worker.loop.call_later(BODY_SECONDS, self._hand_over)
        return True

    def _answer_now(self) -> bytes | None:
        """Answer the held request; the bytes behind it, or None when it must take the long way."""
        request, receiver = self._current_request, self._body_receiver
        if (
            not receiver._complete  # noqa: SLF001  (gunicorn keeps this here and offers no other look)
            or receiver.buffered > SMALL_BYTES
            or request.version != _VERSION
            or request.may_upgrade()
            or self._flow_control.write_paused
        ):
            return None
        answer = self.app.hot(
            request.method,
            request.raw_path,
            request.query.encode("latin-1"),
            request.headers_bytes,
            b"".join(receiver._chunks),  # noqa: SLF001  (see above)
            self._peer,
            self._answer_later,
            chain=self._chain,
        )
        if answer is None:
            return None
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        self._held = False
        if answer is WAITS:
            self._busy = True
            return b""
        return self._write(answer)

    def _answer_later(self, answer: Rendered) -> None:
        self._busy = False
        if self.transport is None or self.transport.is_closing():
            return  # the client has gone; what was done stays done, and on record
        behind = self._write(answer)
        if behind:
            self._feed_callback_parser(behind)

    def _write(self, answer: Rendered) -> bytes:
        """Send the answer to the request in hand; the bytes behind it."""
        request = self._current_request
        self.worker.nr += 1
        close = bool(self._will_close(request, False))
        self._safe_write(self._rendered(answer, close, head_only=request.method == "HEAD"))
        return self._go_on(close)

    def _go_on(self, close: bool) -> bytes:
        """Leave the connection as gunicorn's loop does between two requests."""
        self._current_request = None
        self._body_receiver = None
        if close:
            self._close_transport()
            self._request_ready.set()
            return b""
        self._answered += 1
        self._answered_at = self.worker.loop.time()
        if self._keepalive_handle is None:
            self._arm_keepalive_timer()
        behind: bytes = self._callback_parser.remaining()
        self._callback_parser.reset()
        return behind

    def _rendered(self, answer: Rendered, close: bool, *, head_only: bool) -> bytes:
        parts = [_get_cached_status_line(_VERSION, answer.status)]
        for name, value in response_headers(answer, self._is_ssl):
            parts += (name, b": ", value, b"\r\n")
        parts.append(_get_cached_date_header())
        parts.append(b"Connection: close\r\n\r\n" if close else b"\r\n")
        if not head_only:
            parts.append(answer.body)
        return b"".join(parts)

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
