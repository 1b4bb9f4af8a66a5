"""One connection that knows its own port, and which ports a process holds: who was talking to the victim?"""

from __future__ import annotations

import http.client
import json
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.harness import processes

_ESTABLISHED = {"01", "06", "08"}  # ESTABLISHED, TIME_WAIT, CLOSE_WAIT of /proc/net/tcp


class Lost(Exception):  # noqa: N818  (not an error of ours: the other side went away)
    """A connection, by its port on our side, that ended before its answer came."""

    def __init__(self, port: int, reason: str) -> None:
        super().__init__(reason)
        self.port = port
        self.reason = reason


class Wire:
    """A kept-alive connection to the API. Not thread safe; opens a new one after a loss."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._headers = {"X-Vault-Token": token, "Content-Type": "application/json"}
        self._connection: http.client.HTTPConnection | None = None

    def call(self, verb: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and body.

        Raises:
            Lost: the connection ended; whether the request was done is not known.
        """
        local = 0
        try:
            connection = self._open()
            local = connection.sock.getsockname()[1]
            content = None if body is None else json.dumps(body)
            connection.request(verb, f"/v1/{path}", content, self._headers)
            answer = connection.getresponse()
            read = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Lost(local, f"{type(error).__name__}: {error}") from None
        if answer.will_close:
            self.close()
        return answer.status, json.loads(read) if read.strip() else {}

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is None:
            made = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            made.connect()
            made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = made
        return self._connection

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def kill_with_its_ports(pid: int, server_port: int) -> frozenset[int]:
    """SIGKILL a worker; the client ports of the connections that it held.

    It is stopped first, so that it accepts none between the look and the end.
    """
    if not processes.kill(pid, signal.SIGSTOP):
        return frozenset()
    held = _ports(pid, server_port)
    processes.kill(pid, signal.SIGKILL)
    return held


def _ports(pid: int, server_port: int) -> frozenset[int]:
    inodes = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote, state, inode = fields[1], fields[2], fields[3], fields[9]
        if state in _ESTABLISHED and inode in inodes and int(local[9:], 16) == server_port:
            found.add(int(remote[9:], 16))
    return frozenset(found)
