"""What a test leaves open is closed at its end, so that nothing of it can fail another test."""

from __future__ import annotations

import http.client
import socket
import threading

import httpx

from tests.harness.hangup import hung_up

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def _answer_once(listening: socket.socket, ended: list[bytes]) -> None:
    line, _ = listening.accept()
    with line:
        line.recv(65536)
        line.sendall(ANSWER)
        ended.append(line.recv(1))  # b"": the client hung up


def test_connections_of_clients_that_nobody_closes() -> None:
    ended: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = threading.Thread(target=_answer_once, args=(listening, ended))
        server.start()
        with hung_up():
            left = httpx.Client(trust_env=False)
            assert left.get(f"http://127.0.0.1:{port}/").status_code == 200
            plain = http.client.HTTPConnection("127.0.0.1", port)
            plain.connect()
        assert plain.sock is None
        server.join(20)
        assert ended == [b""]
