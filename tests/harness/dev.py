"""A server started by `keystead dev`: the same command that a newcomer types."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import httpx

from tests.harness import processes
from tests.harness.api import NO_TLS, Api

KEYSTEAD = Path(sys.prefix) / "bin" / "keystead"
START_SECONDS = 60


def clean_environment(home: Path, **extra: str) -> dict[str, str]:
    """What a child needs and nothing of ours: no proxy, no token, no configuration of the caller."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **extra}


class DevServer:
    """One data folder and the server on it. Output goes to files, for the tests that look for leaks.

    Args:
        folder: private; `data/` below it becomes the server's data folder.
        workers: worker processes.
        environment: additions to the server's environment.
        wrapper: a command that runs the server (strace).
    """

    started: ClassVar[WeakSet[DevServer]] = WeakSet()
    """Those of this process, for the report of a test that failed beside them."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 4,
        environment: dict[str, str] | None = None,
        wrapper: list[str] | None = None,
        arguments: list[str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = processes.free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.acme_http_port = processes.free_port()
        self.acme_tls_port = processes.free_port()
        self.token = "root-" + secrets.token_hex(12)
        self.output = folder / "server.out"
        self.errors = folder / "server.err"
        self.workers = workers
        self._environment = environment or {}
        self._wrapper = wrapper or []
        self._arguments = arguments or []
        self._process: subprocess.Popen[bytes] | None = None
        self._token_file = folder / "root-token"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.started.add(self)
        self._token_file.write_text(self.token + "\n")
        self._token_file.chmod(0o600)

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def audit(self) -> Path:
        """The audit folder, as `keystead audit verify` takes it."""
        return self.data / "audit"

    def command(self) -> list[str]:
        """The command line."""
        return [
            *self._wrapper,
            str(KEYSTEAD),
            "dev",
            "--listen",
            f"127.0.0.1:{self.port}",
            "--data-dir",
            str(self.data),
            "--root-token-file",
            str(self._token_file),
            "--workers",
            str(self.workers),
            # Challenges of tests are answered on this machine.
            "--acme-network=127.0.0.0/8",
            "--acme-network=::1/128",
            f"--acme-http-port={self.acme_http_port}",
            f"--acme-tls-port={self.acme_tls_port}",
            *self._arguments,
        ]

    def start(self) -> None:
        """Start and wait for the ready line and for an answer."""
        mark = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as out, self.errors.open("ab") as err:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env=clean_environment(self.folder, **self._environment),
                start_new_session=True,
            )
        processes.wait_for(lambda: self._ready(mark), START_SECONDS, lambda: f"ready line\n{self.tail()}")
        processes.wait_for(self.answers, START_SECONDS, "health")

    def _ready(self, mark: int) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"server ended with {self._process.returncode}\n{self.tail()}")
        printed = self.output.read_bytes()[mark:].decode(errors="replace")
        return any(line.startswith("ready: http") for line in printed.splitlines())

    def tail(self) -> str:
        """The end of what the server said, for failures."""
        return "".join(
            path.read_text(errors="replace")[-3000:] for path in (self.output, self.errors) if path.exists()
        )

    def answers(self) -> bool:
        """Whether sys/health says initialised and unsealed."""
        with suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=5, verify=NO_TLS) as client:
            return client.get(f"{self.address}/v1/sys/health").status_code == 200
        return False

    def api(self, token: str | None = None) -> Api:
        """A client; the root token unless another is given."""
        return Api(self.address, self.token if token is None else token)

    def tree(self) -> list[processes.Process]:
        """The processes of the server, the one that was started first."""
        return processes.tree(self.pid) if self._process is not None else []

    def stop(self, seconds: float = 20) -> int:
        """Interrupt as a person does with Ctrl-C; returns the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            # A wrapper such as strace keeps fatal signals to itself; its child is the server.
            table = self.tree()
            processes.kill(table[min(1, len(table) - 1)].pid if self._wrapper else self.pid, signal.SIGINT)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill_all()
        code = self._process.wait(seconds)
        self._process = None
        return code

    def kill_all(self) -> None:
        """SIGKILL to every process of the server at once."""
        for process in self.tree():
            processes.kill(process.pid)

    def after_kill(self) -> None:
        """Forget a process that was killed, so that start() may be called again."""
        if self._process is not None:
            self._process.wait(20)
            self._process = None


class ConfiguredServer(DevServer):
    """The production path: `keystead serve --config FILE`, initialised over the API.

    The token and the first configuration are those of `keystead dev --no-init`; `change` may edit the text.
    """

    def prepare(self, change: Callable[[str], str] = lambda text: text) -> None:
        """Make token and configuration, without roots in it yet."""
        maker = DevServer(self.folder, workers=1, arguments=["--no-init"])
        maker.answers = lambda: True  # type: ignore[method-assign]  # uninitialised servers answer 501
        maker.start()
        maker.stop()
        self.configuration = self.folder / "keystead.toml"
        text = (self.data / "keystead.toml").read_text()
        text = text.replace(f":{maker.port}", f":{self.port}").replace(
            "workers = 1", f"workers = {self.workers}"
        )
        self.configuration.write_text(change(text))
        self.configuration.chmod(0o600)

    def command(self) -> list[str]:
        """The command line."""
        return [*self._wrapper, str(KEYSTEAD), "serve", "--config", str(self.configuration)]

    def answers(self) -> bool:
        """Whether it serves, initialised or not; initialises it at the first time."""
        with suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=20, verify=NO_TLS) as client:
            status = client.get(f"{self.address}/v1/sys/health").status_code
            if status == 501:
                body = {"recovery_shares": 1, "recovery_threshold": 1}
                answer = client.post(f"{self.address}/v1/sys/init", json=body)
                self.token = answer.json()["root_token"]
                self.shares: list[str] = answer.json()["recovery_keys_base64"]
                return False
            return status == 200
        return False
