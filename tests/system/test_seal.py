"""A real OpenBao server has Keystead as its `transit` seal: it starts sealed, asks us, and is open."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.conftest import TokenFactory
from tests.harness import processes
from tests.harness.api import Api
from tests.harness.bao import BAO
from tests.harness.dev import DevServer, clean_environment

CONFIGURATION = """
storage "raft" {{
  path = "{folder}/raft"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
seal "transit" {{
  address = "{seal_address}"
  token = "{seal_token}"
  key_name = "autounseal"
  mount_path = "{seal_mount}/"
  disable_renewal = "false"
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster}"
"""
Mount = Callable[[str], str]


class Sealed:
    """An OpenBao server in a private folder that asks a Keystead key to unseal it."""

    def __init__(self, folder: Path, address: str, token: str, mount: str) -> None:
        self.folder = folder
        self.mount = mount
        self.port = processes.free_port()
        self.api = Api(f"http://127.0.0.1:{self.port}")
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "raft").mkdir(parents=True)
        (folder / "bao.hcl").write_text(
            CONFIGURATION.format(
                folder=folder,
                port=self.port,
                cluster=processes.free_port(),
                seal_address=address,
                seal_token=token,
                seal_mount=mount,
            )
        )

    def launch(self) -> None:
        """Start the process; it may end by itself when its seal cannot be used."""
        with (self.folder / "bao.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(BAO), "server", f"-config={self.folder / 'bao.hcl'}"],
                stdout=log,
                stderr=log,
                env=clean_environment(self.folder),
            )

    def log(self) -> str:
        return (self.folder / "bao.log").read_text()[-3000:]

    def health(self) -> int:
        """501 not initialised, 503 sealed, 200 open, 0 no answer."""
        with suppress(httpx.HTTPError):
            return self.api.get("sys/health").status
        return 0

    def wait(self, health: int, seconds: float = 60) -> None:
        processes.wait_for(lambda: self.health() == health, seconds, lambda: f"{health}: {self.log()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


@pytest.fixture
def sealed(
    server: DevServer, api: Api, mount: Mount, token_with: TokenFactory, tmp_path: Path
) -> Iterator[Sealed]:
    transit = mount("transit")
    api.ok("POST", f"{transit}/keys/autounseal", {"type": "aes256-gcm96", "protection": "hsm"})
    token = token_with(
        f'path "{transit}/encrypt/autounseal" {{ capabilities = ["update"] }}\n'
        f'path "{transit}/decrypt/autounseal" {{ capabilities = ["update"] }}'
    )
    other = Sealed(tmp_path / "bao", server.address, token, transit)
    yield other
    other.stop()
    other.api.close()


def test_openbao_unseals_itself_with_our_key(sealed: Sealed, api: Api) -> None:
    key = f"{sealed.mount}/keys/autounseal"
    sealed.launch()
    sealed.wait(501)
    made = sealed.api.post("sys/init", {"recovery_shares": 1, "recovery_threshold": 1}).json
    assert made["recovery_keys"]
    assert made["keys"] == []
    sealed.wait(200)
    status = sealed.api.get("sys/seal-status").json
    assert (status["type"], status["sealed"], status["recovery_seal"]) == ("transit", False, True)
    root = sealed.api.as_token(made["root_token"])
    root.ok("POST", "sys/mounts/kv", {"type": "kv"})
    root.ok("POST", "kv/kept", {"word": "kept"})

    # A restart: nobody types a share, and the old version still opens after our key was rotated.
    sealed.stop()
    api.ok("POST", f"{key}/rotate", {})
    sealed.launch()
    sealed.wait(200)
    assert root.ok("GET", "kv/kept") == {"word": "kept"}

    # At that start it moved what it keeps to our second version: the first may go.
    api.ok("POST", f"{key}/config", {"min_decryption_version": 2})
    sealed.stop()
    sealed.launch()
    sealed.wait(200)
    assert root.ok("GET", "kv/kept") == {"word": "kept"}
    root.close()


def test_openbao_stays_sealed_without_our_consent(sealed: Sealed, api: Api) -> None:
    key = f"{sealed.mount}/keys/autounseal"
    sealed.launch()
    sealed.wait(501)
    sealed.api.post("sys/init", {"recovery_shares": 1, "recovery_threshold": 1})
    sealed.wait(200)
    sealed.stop()

    # Our key is soft-deleted: it opens nothing, and so neither does their server.
    api.ok("DELETE", f"{key}/soft-delete")
    sealed.launch()
    processes.wait_for(lambda: sealed.ended() or sealed.health() == 503, 60, sealed.log)
    assert sealed.health() != 200
    sealed.stop()

    api.ok("POST", f"{key}/soft-delete-restore", {})
    sealed.launch()
    sealed.wait(200)
