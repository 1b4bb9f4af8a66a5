"""A real `bao server -dev`, the arbiter of shapes and texts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.harness.bao import BAO
from tests.harness.dev import clean_environment
from tests.harness.processes import free_port, kill, tree, wait_for


class Peer:
    """One pki mount of the real server."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def call(self, verb: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and parsed body."""
        answer = self._client.request(verb, path, content=json.dumps(body) if body is not None else None)
        return answer.status_code, answer.json() if answer.content.strip() else {}

    def data(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The data of a success."""
        status, parsed = self.call(verb, path, body)
        assert status == 200, (verb, path, parsed)
        return parsed["data"] or {}

    def refusal(self, path: str, body: dict[str, Any]) -> str:
        """The text of the one error, without the peer's multierror frame."""
        status, parsed = self.call("POST", path, body)
        assert status >= 400, (path, body, parsed)
        text: str = parsed["errors"][0]
        return text.removeprefix("1 error occurred:\n\t* ").rstrip("\n")


@contextmanager
def running_peer(home: Path) -> Iterator[Peer]:
    """The server, with a mount `pki` that has an EC root."""
    address = f"http://127.0.0.1:{free_port()}"
    command = [str(BAO), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]
    command.append(f"-dev-listen-address={address.removeprefix('http://')}")
    with (home / "bao.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment(home), cwd=home)
    client = httpx.Client(base_url=f"{address}/v1/", headers={"X-Vault-Token": "root"}, trust_env=False)

    def up() -> bool:
        try:
            return client.get("sys/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(up, 30, "the real server")
        peer = Peer(client)
        client.post("sys/mounts/pki", json={"type": "pki", "config": {"max_lease_ttl": "87600h"}})
        peer.data(
            "POST",
            "pki/root/generate/internal",
            {"common_name": "Test Root", "key_type": "ec", "ttl": "8760h"},
        )
        yield peer
    finally:
        client.close()
        for child in tree(process.pid):
            kill(child.pid)
        process.kill()
        process.wait(30)
