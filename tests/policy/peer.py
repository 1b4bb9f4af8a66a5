"""A real `bao server -dev`, the arbiter of what a policy means."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kms.clock import SystemClock

BAO = Path(sys.prefix) / "bin" / "bao"


class Peer:
    """HTTP calls to the peer, over one connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def call(self, method: str, path: str, body: object = None, token: str = "root") -> tuple[int, Any]:
        """(status, decoded body or None)."""
        payload = None if body is None else json.dumps(body)
        headers = {"X-Vault-Token": token, "X-Vault-Request": "true"} if token else {}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        try:
            answer = self._send(method, path, payload, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            # The peer closes connections that were idle for long; every call of these tests may be sent twice.
            self._connection.close()
            answer = self._send(method, path, payload, headers)
        text = answer.read()
        return answer.status, json.loads(text) if text.strip() else None

    def status(self, method: str, path: str, payload: str | None, headers: dict[str, str]) -> int:
        """The status of a request with these headers."""
        answer = self._send(method, path, payload, headers)
        answer.read()
        return answer.status

    def _send(
        self, method: str, path: str, payload: str | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        try:
            self._connection.request(method, f"/v1/{path}", payload, headers)
            return self._connection.getresponse()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def put_policy(self, name: str, text: str) -> int:
        """The status of writing a policy."""
        return self.call("PUT", f"sys/policies/acl/{name}", {"policy": text})[0]

    def token(self, policies: list[str]) -> str:
        """A token with exactly these policies."""
        status, answer = self.call(
            "POST", "auth/token/create", {"policies": policies, "no_default_policy": True}
        )
        assert status == 200, answer
        return str(answer["auth"]["client_token"])

    def capabilities(self, token: str, paths: list[str]) -> dict[str, list[str]]:
        """What the token may do, path by path."""
        status, answer = self.call("POST", "sys/capabilities", {"token": token, "paths": paths})
        assert status == 200, answer
        return {path: answer["data"][path] for path in paths}


@contextmanager
def running() -> Iterator[Peer]:
    """Start the server on a free port and stop exactly that process afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(BAO), "server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address=127.0.0.1:{port}"]
    command.append("-dev-no-store-token")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            peer = Peer(port)
            _wait(peer, process)
            yield peer
            peer.close()
        finally:
            process.terminate()


def _wait(peer: Peer, process: subprocess.Popen[bytes]) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + 30
    while clock.monotonic() < deadline:
        assert process.poll() is None, "bao ended early"
        try:
            status, _ = peer.call("GET", "auth/token/lookup-self")
        except OSError:
            clock.sleep(0.05)
            continue
        if status == 200:
            return
        clock.sleep(0.05)
    raise AssertionError("bao did not start within 30 s")
