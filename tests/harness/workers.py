"""Connections whose other end is known: which of a server's processes has accepted each."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from pathlib import Path

from tests.harness import processes
from tests.harness.dev import DevServer


class Line:
    """A kept connection to one worker."""

    def __init__(self, server: DevServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._connection.connect()
        self._port = self._connection.sock.getsockname()[1]
        self._server = server

    def ask(
        self, verb: str, path: str, body: bytes = b"", content_type: str = "", *, known: bool = False
    ) -> tuple[int, bytes]:
        """One request, with the root token if `known`; status and body."""
        headers = {"Content-Type": content_type} if content_type else {}
        if known:
            headers["X-Vault-Token"] = self._server.token
        self._connection.request(verb, path, body or None, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 500:
            print(verb, path, answer.status, content[:500])  # shown when a test fails
        return answer.status, content

    def pid(self) -> int:
        """Who accepted it. Ask something first."""
        inode = _inode(self._server.port, self._port)
        for process in self._server.tree():
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                try:
                    target = os.readlink(link)  # noqa: PTH115  (not a file: "socket:[4711]")
                except FileNotFoundError:  # closed meanwhile
                    continue
                if target == f"socket:[{inode}]":
                    return process.pid
        raise AssertionError(f"nobody holds the connection from port {self._port}")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _inode(here: int, there: int) -> int:
    """The server's end, by both ports."""
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        local, remote = (int(field.rpartition(":")[2], 16) for field in fields[1:3])
        if (local, remote) == (here, there):
            return int(fields[9])
    raise AssertionError(f"there is no connection from port {there} to {here}")


def replace(server: DevServer, workers: int, count: int, *, jobs: bool = False) -> None:
    """SIGKILL to so many workers, and to the jobs process; returns when others stand in their place, asked nothing yet."""
    children = [process.pid for process in server.tree() if process.parent == server.pid]
    table = [process for process in server.tree() if process.parent in children]
    arbiters = {process.parent for process in table}
    ended = [process.pid for process in table[:count]]
    ended += [pid for pid in children if jobs and pid not in arbiters]
    for pid in ended:
        processes.kill(pid, signal.SIGKILL)

    def whole() -> bool:
        now = {process.pid for process in server.tree()}
        return not now & set(ended) and len(now) >= workers + 3

    processes.wait_for(whole, 30, server.tail)


def one_to_each(server: DevServer, workers: int) -> list[Line]:
    """Connections until every worker has one of them; at least two a worker."""
    lines: list[Line] = []
    pids: set[int] = set()
    while len(pids) < workers or len(lines) < 2 * workers:
        assert len(lines) < 50 * workers, f"only {len(pids)} processes accept connections"
        lines.append(Line(server))
        lines[-1].ask("GET", "/v1/sys/seal-status")
        pids.add(lines[-1].pid())
    return lines


def until_each(server: DevServer, workers: int, path: str, body: object, patience: float = 30.0) -> float:
    """Seconds until a POST to each worker is answered with 200.

    One worker says nothing of the others: who lost the token last waits longest for its next attempt.
    """
    sent = json.dumps(body).encode()
    began = time.monotonic()
    lines = one_to_each(server, workers)
    for line in lines:
        while True:
            status, said = line.ask("POST", f"/v1/{path}", sent, "application/json", known=True)
            if status == 200:
                break
            assert time.monotonic() - began < patience, said
            time.sleep(0.05)
    took = time.monotonic() - began
    for line in lines:
        line.close()
    return took
