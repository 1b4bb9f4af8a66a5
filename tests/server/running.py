"""A supervisor in a process of its own, with the fake App."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.harness import processes
from tests.harness.dev import clean_environment

START_SECONDS = 30


class Running:
    """One server on a free port in a private folder.

    Args:
        extra: lines appended to the configuration.
        environment: additions for the server's processes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        extra: str = "",
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        self.folder = folder
        self.port = processes.free_port()
        self.output, self.errors = folder / "out", folder / "err"
        self.config = folder / "keystead.toml"
        for name in ("module", "pin"):
            (folder / name).write_text("1234\n")
            (folder / name).chmod(0o600)
        self.config.write_text(
            f'listen = "127.0.0.1:{self.port}"\nworkers = {workers}\nrecovery = "none"\n'
            f'[data]\nstorage = "{folder}/storage"\naudit = "{folder}/audit"\n'
            f'[hsm]\nmodule = "{folder}/module"\ntoken_label = "x"\npin_file = "{folder}/pin"\n'
            f"{extra}\n"
        )
        self.environment = clean_environment(folder, **(environment or {}))
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> subprocess.Popen[bytes]:
        """Start without waiting."""
        with self.output.open("ab") as out, self.errors.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.http.fakeserver", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environment,
                start_new_session=True,
                cwd=Path(__file__).parents[2],
            )
        return self.process

    def start(self) -> None:
        """Start and wait for the ready line."""
        mark = self.output.stat().st_size if self.output.exists() else 0
        process = self.launch()

        def ready() -> bool:
            assert process.poll() is None, self.errors.read_text()
            return b"ready: http" in self.output.read_bytes()[mark:]

        processes.wait_for(ready, START_SECONDS, "ready")

    @property
    def pid(self) -> int:
        """The supervisor."""
        assert self.process is not None
        return self.process.pid

    def tree(self) -> list[int]:
        """All process ids, the supervisor first."""
        return [process.pid for process in processes.tree(self.pid)]

    def workers(self) -> list[int]:
        """Process ids of the web workers: grandchildren of the supervisor."""
        table = processes.tree(self.pid)
        children = {process.pid for process in table if process.parent == self.pid}
        return [process.pid for process in table if process.parent in children]

    def log(self) -> list[dict[str, Any]]:
        """The operator log."""
        return [json.loads(line) for line in self.errors.read_text().splitlines() if line.startswith("{")]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop cleanly; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL to everything that is left."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            for pid in reversed(self.tree()):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def connect(self) -> socket.socket:
        """A raw connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def talk(self, *pieces: bytes, quiet: float = 0.3, pause: float = 0.0) -> Answers:
        """Send the pieces; collect what comes back until the server closes or says nothing more."""
        with self.connect() as connection:
            received, closed = bytearray(), False
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)
                connection.settimeout(quiet)
                while chunk := connection.recv(65536):
                    received += chunk
                closed = True
            except TimeoutError:
                pass
            except (ConnectionResetError, BrokenPipeError):
                closed = True
        return Answers(bytes(received), closed)


class Answers:
    """Everything that came back on one connection, split into responses."""

    def __init__(self, raw: bytes, closed: bool) -> None:
        self.raw = raw
        self.closed = closed
        self.responses: list[tuple[int, bytes]] = []
        rest = raw
        while rest.startswith(b"HTTP/1."):
            head, separator, rest = rest.partition(b"\r\n\r\n")
            if not separator:
                break
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            self.responses.append((int(head.split()[1]), rest[:length]))
            rest = rest[length:]
        self.junk = rest

    @property
    def statuses(self) -> list[int]:
        """Status codes in order."""
        return [status for status, _ in self.responses]
