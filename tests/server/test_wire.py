"""The edge of HTTP, spoken by hand (T-56, T-57, T-59d): refused, or handled once and never mixed up."""

from __future__ import annotations

import json
import secrets
import time
from contextlib import ExitStack

import pytest

from kms.http.vault.body import MAX_BODY_BYTES
from tests.harness import processes
from tests.server.running import Running

TOKEN = b"X-Vault-Token: root\r\n"
JSON = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"
ECHO = b"POST /v1/sys/echo HTTP/1.1\r\nHost: x\r\n" + TOKEN + JSON


def _canary() -> tuple[str, bytes]:
    """A well-formed request that is recognised in the answer; the connection ends after it."""
    name = secrets.token_hex(8)
    body = b'{"plaintext":"%s"}' % name.encode()
    return name, ECHO + CLOSE + b"Content-Length: %d\r\n\r\n" % len(body) + body


REFUSED = {
    "length and chunked": ECHO + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": ECHO + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": ECHO + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two different lengths": ECHO + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
    "length list": ECHO + b"Content-Length: 2, 2\r\n\r\n{}",
    "signed length": ECHO + b"Content-Length: +2\r\n\r\n{}",
    "negative length": ECHO + b"Content-Length: -2\r\n\r\n{}",
    "length with underscore": ECHO + b"Content-Length: 1_0\r\n\r\n{}",
    "hexadecimal length": ECHO + b"Content-Length: 0x2\r\n\r\n{}",
    "chunked twice": ECHO + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": ECHO + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "unknown coding": ECHO + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding with vertical tab": ECHO + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": ECHO + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "gzip coding alone": ECHO + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked in HTTP/1.0": ECHO.replace(b"HTTP/1.1", b"HTTP/1.0")
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obsolete folding": ECHO + b"X-A: b\r\n c\r\n\r\n",
    "folding in the first header": b"GET /v1/sys/health HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n",
    "bare LF": b"GET /v1/sys/health HTTP/1.1\nHost: x\n\n",
    "bare LF in a header": ECHO + b"X-A: b\nX-C: d\r\n\r\n",
    "bare CR in a header": ECHO + b"X-A: b\rX-C: d\r\n\r\n",
    "zero in a header": ECHO + b"X-A: b\x00c\r\n\r\n",
    "zero in a name": ECHO + b"X-\x00A: b\r\n\r\n",
    "zero in the target": b"GET /v1/sys/\x00health HTTP/1.1\r\nHost: x\r\n\r\n",
    "eight bit in the target": b"GET /v1/sys/\xffhealth HTTP/1.1\r\nHost: x\r\n\r\n",
    "two hosts": b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "two content types": ECHO + JSON + b"Content-Length: 2\r\n\r\n{}",
    "no colon": ECHO + b"garbage\r\n\r\n",
    "empty name": ECHO + b": x\r\n\r\n",
    "long header": ECHO + b"X-A: " + b"a" * 9000 + b"\r\n\r\n",
    "101 headers": ECHO + b"".join(b"X-%d: a\r\n" % i for i in range(101)) + b"\r\n",
    "long line": b"GET /v1/sys/health?a=" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /v1/sys/health\r\n\r\n",
    "HTTP/2.0": b"GET /v1/sys/health HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET /v1/sys/health HTTP/1.2\r\nHost: x\r\n\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower case method": b"get /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "spaces in the line": b"GET  /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 32 + b"\r\n\r\n",
    "bad chunk size": ECHO + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "signed chunk size": ECHO + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "chunk without its end": ECHO + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
    "bare CR in a chunk extension": ECHO + b"Transfer-Encoding: chunked\r\n\r\n2;a\rb\r\n{}\r\n0\r\n\r\n",
    "length in a trailer": ECHO
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_refused_and_nothing_behind_it_is_served(wire: Running, raw: bytes) -> None:
    name, canary = _canary()
    answers = wire.talk(raw + canary, quiet=3)
    assert answers.closed
    assert len(answers.responses) <= 1
    assert all(400 <= status < 600 and status != 500 for status in answers.statuses)
    assert name.encode() not in answers.raw
    assert answers.junk == b""


HANDLED = {
    "chunked": (ECHO + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200),
    "chunked in odd case": (ECHO + b"tRANSFER-eNCODING: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200),
    "chunk extension": (ECHO + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n", 200),
    "many chunks": (ECHO + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200),
    "trailer": (ECHO + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-T: y\r\n\r\n", 200),
    "body on GET": (b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /", 200),
    "pool": (ECHO.replace(b"/echo", b"/pool") + b"Content-Length: 2\r\n\r\n{}", 200),
    "refused by the door": (b"GET /v1/x/../y HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "empty line first": (b"\r\nGET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "redirect": (b"GET /v1//sys/health HTTP/1.1\r\nHost: x\r\n\r\n", 307),
}


@pytest.mark.parametrize(("raw", "status"), HANDLED.values(), ids=HANDLED.keys())
def test_handled_once_and_the_next_one_after_it(wire: Running, raw: bytes, status: int) -> None:
    name, canary = _canary()
    answers = wire.talk(raw + canary, quiet=3)
    assert answers.statuses == [status, 200]
    assert name.encode() not in answers.responses[0][1]
    assert name.encode() in answers.responses[1][1]
    assert answers.junk == b""


def test_pipelined_answers_keep_their_order(wire: Running) -> None:
    canaries = [_canary() for _ in range(20)]
    slow = ECHO.replace(b"/echo", b"/pool") + b"Content-Length: 2\r\n\r\n{}"
    canaries = [(name, request.replace(CLOSE, b"")) for name, request in canaries]
    raw = b"".join(request + (slow if i % 5 == 0 else b"") for i, (_, request) in enumerate(canaries))
    answers = wire.talk(raw, quiet=1)
    assert answers.statuses == [200] * 24
    seen = [body for _, body in answers.responses if b'"plaintext"' in body]
    assert [name.encode() in body for (name, _), body in zip(canaries, seen, strict=True)] == [True] * 20


def test_underscore_headers_are_dropped(wire: Running) -> None:
    raw = ECHO.replace(b"X-Vault-Token", b"X_Vault_Token") + b"Content-Length: 2\r\n\r\n{}"
    assert wire.talk(raw).statuses == [403]


def test_forwarded_headers_of_anybody_are_ignored(wire: Running) -> None:
    forged = (
        b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nForwarded: for=203.0.113.9\r\n"
        b"X-Real-IP: 203.0.113.9\r\nScript-Name: /v1\r\nSCRIPT_NAME: /v1\r\nX-Forwarded-Ssl: on\r\n"
    )
    for path in (b"/echo", b"/pool"):
        raw = ECHO.replace(b"/echo", path) + forged + b"Content-Length: 2\r\n\r\n{}"
        (answer,) = wire.talk(raw).responses
        assert json.loads(answer[1])["data"]["peer"] == "127.0.0.1"
        assert b"203.0.113.9" not in answer[1]


def test_websockets_are_refused(wire: Running) -> None:
    raw = (
        b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert all(status >= 400 for status in wire.talk(raw).statuses)


def test_errors_of_the_parser_look_like_all_others(wire: Running) -> None:
    answers = wire.talk(REFUSED["two lengths"], quiet=3)
    assert b"\r\nContent-Type: application/json\r\n" in answers.raw
    assert list(json.loads(answers.responses[0][1])) == ["errors"]


LARGE = {
    "declared": b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
    "declared absurdly": b"Content-Length: 99999999999999999999\r\n\r\n",
}


@pytest.mark.parametrize("head", LARGE.values(), ids=LARGE.keys())
def test_too_large_is_said_before_the_body(wire: Running, head: bytes) -> None:
    answers = wire.talk(ECHO + head, quiet=3)
    assert answers.statuses == [413]
    assert answers.closed


def test_too_large_in_chunks(wire: Running) -> None:
    before = processes.resident_bytes(wire.pid)
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    answers = wire.talk(ECHO + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 36, quiet=5)
    assert answers.closed
    assert answers.statuses in ([413], [])  # a reset may overtake the answer
    assert processes.resident_bytes(wire.pid) - before < 64 * 2**20


def test_a_large_body_is_served(wire: Running) -> None:
    body = b'{"plaintext":"' + b"a" * 3_000_000 + b'"}'
    (answer,) = wire.talk(ECHO + CLOSE + b"Content-Length: %d\r\n\r\n" % len(body), body, quiet=3).responses
    assert answer[0] == 200
    assert len(answer[1]) > 3_000_000


BOMBS = {
    "depth": b'{"a":' + b"[" * 100_000,
    "keys": b"{" + b",".join(b'"k%d":1' % i for i in range(1_000_000)) + b"}",
    "integer": b'{"plaintext":' + b"1" * 1_000_000 + b"}",
    "NaN": b'{"plaintext":NaN}',
    "surrogate": b'{"plaintext":"\\ud800"}',
    "gzip": b"\x1f\x8b\x08\x00" + b"\x00" * 1000,
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS.keys())
def test_bombs(wire: Running, body: bytes) -> None:
    before = processes.resident_bytes(wire.pid)
    answers = wire.talk(ECHO + CLOSE + b"Content-Length: %d\r\n\r\n" % len(body), body, quiet=5)
    assert answers.statuses == [400]
    assert processes.resident_bytes(wire.pid) - before < 64 * 2**20


def test_duplicate_keys_last_wins(wire: Running) -> None:
    body = b'{"plaintext":"first","plaintext":"last"}'
    (answer,) = wire.talk(ECHO + b"Content-Length: %d\r\n\r\n" % len(body) + body).responses
    assert json.loads(answer[1])["data"]["args"]["plaintext"] == "last"


def test_gzip_is_not_unpacked(wire: Running) -> None:
    raw = ECHO + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    assert wire.talk(raw).statuses == [400]


def test_many_large_bodies_at_once_have_a_budget(wire: Running) -> None:
    with ExitStack() as stack:
        for _ in range(24):
            connection = stack.enter_context(wire.connect())
            connection.sendall(ECHO + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES + b" " * 1000)
        time.sleep(0.3)
        answers = wire.talk(ECHO + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES + b" " * 1000, quiet=1)
        # Small requests are served meanwhile.
        assert wire.talk(b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n").statuses == [200]
    assert answers.statuses == [503]


def test_requests_in_pieces(wire: Running) -> None:
    _, canary = _canary()
    assert wire.talk(*[bytes([b]) for b in canary], pause=0.001).statuses == [200]


PIECES = {
    "together": (0.0, b"", [200]),
    "apart": (0.1, b"", [200]),
    "far apart": (0.8, b"", [200]),  # longer than the short way waits for a body
    "asked for": (0.1, b"Expect: 100-continue\r\n", [100, 200]),
}


@pytest.mark.parametrize(("pause", "header", "statuses"), PIECES.values(), ids=PIECES.keys())
def test_head_and_body(wire: Running, pause: float, header: bytes, statuses: list[int]) -> None:
    head = ECHO + CLOSE + header + b"Content-Length: 17\r\n\r\n"
    answers = wire.talk(head, b'{"plaintext":"x"}', pause=pause, quiet=3)
    assert answers.statuses == statuses
    assert json.loads(answers.responses[-1][1])["data"]["args"]["plaintext"] == "x"


def test_a_body_that_never_comes_is_not_served(wire: Running) -> None:
    answers = wire.talk(ECHO + b"Content-Length: 17\r\n\r\n", b'{"plain', quiet=1)
    assert answers.responses == []


@pytest.mark.parametrize("path", [b"/echo", b"/pool"])
def test_http_1_0_closes(wire: Running, path: bytes) -> None:
    raw = ECHO.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"/echo", path) + b"Content-Length: 2\r\n\r\n{}"
    answers = wire.talk(raw, quiet=3)
    assert (answers.statuses, answers.closed) == ([200], True)


@pytest.mark.parametrize("path", [b"/v1/sys/health", b"/v1/sys/document"])
def test_head_has_no_body(wire: Running, path: bytes) -> None:
    _, canary = _canary()
    answers = wire.talk(b"HEAD " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n" + canary, quiet=3)
    head, _, rest = answers.raw.partition(b"\r\n\r\n")
    assert b"Content-Length: 0" not in head
    assert rest.startswith(b"HTTP/1.1 200")


def test_no_content_has_none(wire: Running) -> None:
    _, canary = _canary()
    raw = ECHO.replace(b"/echo", b"/nothing") + b"Content-Length: 2\r\n\r\n{}"
    answers = wire.talk(raw + canary, quiet=3)
    assert answers.statuses == [204, 200]
    assert b"Content-Length" not in answers.raw.partition(b"\r\n\r\n")[0]


def test_both_ways_answer_alike(wire: Running) -> None:
    """The event loop and the thread pool differ in speed only."""
    seen = []
    for path in (b"/echo", b"/pool"):
        raw = ECHO.replace(b"/echo", path) + CLOSE + b"Content-Length: 17\r\n\r\n" + b'{"plaintext":"x"}'
        head, _, body = wire.talk(raw, quiet=3).raw.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")[1:]
        fields = dict(line.split(b": ", 1) for line in lines if not line.startswith(b"date"))
        answer = json.loads(body)
        answer["data"].pop("path")
        answer.pop("request_id")
        fields.pop(b"content-length")
        seen.append((fields, answer))
    assert seen[0] == seen[1]
