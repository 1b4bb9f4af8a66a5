"""Ours and the real server, for requests that go to both."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.harness.bao import BAO
from tests.harness.dev import clean_environment
from tests.harness.processes import free_port, wait_for

AUDIT_CONFIGURATION = """
unsafe_allow_api_audit_creation = true
allow_audit_log_prefixing = true
"""


class Side:
    """One server, as root or as somebody else."""

    def __init__(self, address: str, token: str) -> None:
        self.client = httpx.Client(base_url=f"{address}/v1/", trust_env=False, timeout=60)
        self.root = token

    def ask(
        self, verb: str, path: str, body: Any = None, *, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and parsed body, None for none. `token` "" sends none."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        wanted = self.root if token is None else token
        if wanted:
            sent["X-Vault-Token"] = wanted
        content = None if body is None else json.dumps(body)
        answer = self.client.request(verb, path, content=content, headers=sent)
        try:
            return answer.status_code, json.loads(answer.text) if answer.text.strip() else None
        except json.JSONDecodeError:
            return answer.status_code, answer.text

    def data(self, verb: str, path: str, body: Any = None) -> Any:
        """The data of a success."""
        status, parsed = self.ask(verb, path, body)
        assert status in (200, 204), (verb, path, parsed)
        return parsed and parsed["data"]

    def token(self, policy: str, name: str = "limited") -> str:
        """A token with this policy only."""
        self.data("POST", f"sys/policies/acl/{name}", {"policy": policy})
        body = {"policies": [name], "no_default_policy": True}
        status, parsed = self.ask("POST", "auth/token/create", body)
        assert status == 200, parsed
        made: str = parsed["auth"]["client_token"]
        return made

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


@contextmanager
def real_server(home: Path) -> Iterator[Side]:
    """`bao server -dev`, which lets audit devices be made over the API."""
    address = f"http://127.0.0.1:{free_port()}"
    configuration = home / "bao.hcl"
    configuration.write_text(AUDIT_CONFIGURATION)
    command = [str(BAO), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]
    command += [f"-dev-listen-address={address.removeprefix('http://')}", f"-config={configuration}"]
    with (home / "bao.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment(home), cwd=home)
    side = Side(address, "root")

    def up() -> bool:
        try:
            return side.ask("GET", "sys/mounts/secret")[0] == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(up, 60, "the real server")
        yield side
    finally:
        side.close()
        process.terminate()
        process.wait(30)


@contextmanager
def device(side: Side, path: Path | str, **more: Any) -> Iterator[str]:
    """A file device; disabled at the end."""
    name = f"d-{secrets.token_hex(3)}"
    options = {"file_path": str(path), **more.pop("options", {})}
    side.data("POST", f"sys/audit/{name}", {"type": "file", "options": options, **more})
    try:
        yield name
    finally:
        side.data("DELETE", f"sys/audit/{name}")
