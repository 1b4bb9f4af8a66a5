"""kill -9 between the intent of enabling an audit device and its outcome: it is not enabled, the log says so, and it can be.

The collector has the test line and does not answer, so the process dies exactly there.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest

from kms.audit.verify import verify
from tests.harness import log
from tests.harness.dev import DevServer
from tests.harness.processes import wait_for
from tests.harness.workers import replace

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Collector:
    """Takes lines over HTTP, and answers once it may."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.answers = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with line, suppress(ConnectionError):
                if line.recv(65536):
                    self.arrived.set()
                    self.answers.wait(60)
                    line.sendall(ANSWER)

    def close(self) -> None:
        self.answers.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)


@pytest.fixture(name="collector")
def _collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def enable(server: DevServer, collector: Collector) -> int:
    """Its status; 0 when the connection ended without one."""
    options = {"uri": collector.uri, "write_timeout": "10s"}
    with server.api() as api:
        try:
            return api.post("sys/audit/web", {"type": "http", "options": options}).status
        except httpx.HTTPError:
            return 0


def closings(server: DevServer) -> list[str]:
    """The outcomes of all attempts, "" for one that is open."""
    entries = [one for one in log.entries(server.audit) if one.operation == "sys.audit.enable"]
    closed = {one.id: one.outcome for one in entries if one.phase == "outcome"}
    return [closed.get(one.id, "") for one in entries if one.phase == "intent"]


@pytest.mark.parametrize("victim", ["worker", "all"])
def test_a_device_is_enabled_whole_or_not_at_all(
    fresh_server: Callable[..., DevServer], collector: Collector, victim: str
) -> None:
    server = fresh_server(workers=1)
    said: list[int] = []
    asker = threading.Thread(target=lambda: said.append(enable(server, collector)))
    asker.start()
    assert collector.arrived.wait(30)
    assert closings(server) == [""], "its intent is on record before anything leaves"
    if victim == "worker":
        replace(server, 1, 1)
    else:
        server.kill_all()
        server.after_kill()
        server.start()
    asker.join(30)
    assert said == [0]
    wait_for(lambda: closings(server) == ["undone"], 60, lambda: f"{closings(server)}\n{server.tail()}")
    with server.api() as api:
        assert api.get("sys/audit").data == {}
        collector.answers.set()
        assert enable(server, collector) == 204
        assert list(api.get("sys/audit").data) == ["web/"]
        api.ok("DELETE", "sys/audit/web")
    assert sorted(closings(server)) == ["ok", "undone"]
    server.stop()
    report = verify(server.audit, None, [])
    assert report.exit_code in {0, 3}, "\n".join(report.lines())
