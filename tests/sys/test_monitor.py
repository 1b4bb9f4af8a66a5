"""sys/monitor with real clients: what is told, to whom, when it ends, and that it holds up nobody."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kms.http.streams import MAX_STREAMS
from tests.harness.bao import BAO, Bao
from tests.harness.dev import DevServer
from tests.harness.processes import wait_for

WATCHER = 'path "sys/monitor" { capabilities = ["read", "sudo"] }'
READER = 'path "sys/monitor" { capabilities = ["read"] }'
STANDARD = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[(INFO|WARN|ERROR)\] +[a-z]+: [a-z_]+: .*\n")
PATIENCE = 30.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    server = DevServer(tmp_path_factory.mktemp("watched"), workers=2)
    server.start()
    yield server
    server.stop()


class Watch:
    """A running `bao monitor`, and what it has printed."""

    def __init__(self, bao: Bao, folder: Path, *arguments: str) -> None:
        self._printed = folder / f"monitor-{time.monotonic_ns()}"
        with self._printed.open("wb") as out:
            self.process = subprocess.Popen(
                [str(BAO), "monitor", *arguments], stdout=out, stderr=out, env=bao.environment
            )
        self.until("log_watched")

    @property
    def text(self) -> str:
        return self._printed.read_text()

    def until(self, text: str) -> None:
        """Wait for a line with `text`."""
        wait_for(lambda: text in self.text, PATIENCE, f"{text} in the log")

    def over(self) -> None:
        """It ends, because the server has ended it."""
        self.process.wait(PATIENCE)


@contextmanager
def watching(server: DevServer, folder: Path, *arguments: str, token: str = "") -> Iterator[Watch]:
    watch = Watch(Bao(server.address, token or server.token, folder), folder, *arguments)
    try:
        yield watch
    finally:
        watch.process.kill()
        watch.process.wait()


def limited(server: DevServer, policy: str, name: str) -> str:
    with server.api() as api:
        api.ok("POST", f"sys/policies/acl/{name}", {"policy": policy})
        made: str = api.post("auth/token/create", {"policies": [name]}).json["auth"]["client_token"]
        return made


def test_lines_of_every_process_at_the_callers_own_level(watched: DevServer, tmp_path: Path) -> None:
    token = limited(watched, WATCHER, "watcher")
    with ExitStack() as stack:
        everything = stack.enter_context(watching(watched, tmp_path, token=token))
        grave = stack.enter_context(watching(watched, tmp_path, "-log-level=error", token=token))
        parsed = stack.enter_context(watching(watched, tmp_path, "-log-format=json", token=token))
        with watched.api() as api:
            # What goes to standard error is another matter than what somebody watches.
            api.ok("POST", "sys/loggers", {"level": "error"})
        os.kill(watched.pid, signal.SIGHUP)
        for watch in (everything, grave, parsed):
            watch.over()  # those that served it are replaced
        assert all(STANDARD.fullmatch(line) for line in everything.text.splitlines(keepends=True))
        assert "supervisor: reload: pid=" in everything.text
        assert grave.text.splitlines()[1:] == []
        records = [json.loads(line) for line in parsed.text.splitlines()]
        assert {record["@module"] for record in records} >= {"monitor", "supervisor"}
        assert all({"@level", "@message", "@module", "@timestamp"} <= set(record) for record in records)
        told = everything.text + parsed.text
        assert watched.token not in told
        assert token not in told
        assert '"event":"reload"' not in watched.errors.read_text()
        with watched.api() as api:
            api.ok("DELETE", "sys/loggers")


def test_only_with_sudo_in_the_root_namespace_and_as_a_stream(watched: DevServer) -> None:
    reader = limited(watched, READER, "reader")
    with watched.api(reader) as api:
        assert api.call("GET", "sys/monitor").status == 403
    with watched.api() as api:
        api.ok("POST", "sys/namespaces/watched")
        for headers, query, words in (
            ({"X-Vault-Namespace": "watched"}, "", "namespace"),
            ({"X-Vault-Wrap-TTL": "60"}, "", "wrapped"),
            ({}, "?log_level=loud", "unknown log level"),
            ({}, "?log_format=xml", "unknown log format"),
        ):
            answer = api.call("GET", f"sys/monitor{query}", headers=headers)
            assert answer.status == 400, answer
            assert words in str(answer.json)


def test_it_ends_with_the_token(watched: DevServer, tmp_path: Path) -> None:
    token = limited(watched, WATCHER, "ending")
    with watching(watched, tmp_path, token=token) as watch, watched.api(token) as own:
        own.ok("POST", "auth/token/revoke-self")
        watch.over()


def _open(server: DevServer) -> socket.socket:
    """A client that asks and never reads."""
    made = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    made.sendall(f"GET /v1/sys/monitor HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {server.token}\r\n\r\n".encode())
    return made


def test_those_who_only_listen_hold_up_nobody(tmp_path: Path) -> None:
    """More of them than there may be: the others are refused, every request is served, and the stop does not wait."""
    server = DevServer(tmp_path / "server", workers=1)
    server.start()
    with ExitStack() as stack:
        try:
            clients = [stack.enter_context(_open(server)) for _ in range(MAX_STREAMS + 2)]
            heads = [client.recv(12) for client in clients]
            assert sorted(heads) == [b"HTTP/1.1 200"] * MAX_STREAMS + [b"HTTP/1.1 503"] * 2
            clients[heads.index(b"HTTP/1.1 200")].close()  # who leaves makes room
            with server.api() as api:
                for _ in range(50):
                    api.ok("GET", "sys/mounts")
            wait_for(lambda: _begins(server, stack), PATIENCE, "room for another one")
        finally:
            assert server.stop() == 0


def _begins(server: DevServer, stack: ExitStack) -> bool:
    client = stack.enter_context(_open(server))
    return client.recv(12) == b"HTTP/1.1 200"
