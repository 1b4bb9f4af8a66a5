"""Two servers, the same requests: ours over HTTP with its whole road, and `bao server -dev`."""

from __future__ import annotations

import json
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.harness.bao import BAO
from tests.harness.dev import DevServer

# A token that may do nothing here; both servers know it.
DENIED = "denied"
# Answers that are no JSON: their types are compared.
DOCUMENTS = frozenset(
    {
        "application/pkix-cert",
        "application/pkix-crl",
        "application/pem-certificate-chain",
        "application/x-pem-file",
    }
)
_SLOT = re.compile(r"\{([a-z0-9_ :-]+)\}")


@dataclass(frozen=True)
class Request:
    """One request below the mount. `{name}` in a text is what this side answered for that name before.

    Args:
        what: what is tried, for people and for rules.
        keep: name -> member of the answer's data that is remembered under it.
    """

    verb: str
    path: str
    body: Any = None
    what: str = "minimal"
    token: str = ""
    keep: tuple[tuple[str, str], ...] = ()

    def shown(self) -> str:
        """For people, and for rules to match."""
        token = f" as {self.token}" if self.token else ""
        return f"{self.verb} {self.path} {json.dumps(self.body)} [{self.what}]{token}"


@dataclass
class Side:
    """One server."""

    client: httpx.Client
    mount: str
    denied: str = ""
    kept: dict[str, str] = field(default_factory=dict)

    def fill(self, value: Any) -> Any:
        """Put what this side remembers into texts."""
        if isinstance(value, str):
            return _SLOT.sub(lambda match: self.kept.get(match[1], match[0]), value)
        if isinstance(value, list):
            return [self.fill(each) for each in value]
        if isinstance(value, dict):
            return {name: self.fill(each) for name, each in value.items()}
        return value

    def ask(self, request: Request) -> tuple[int, Any]:
        """Status and the parsed body; None for none."""
        headers = {"X-Vault-Token": self.denied} if request.token == DENIED else {}
        if request.verb == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        path, body = f"{self.mount}/{self.fill(request.path)}", self.fill(request.body)
        writes = request.verb in ("POST", "PUT", "PATCH")
        content = json.dumps(body) if writes and body is not None else None
        params = body if not writes and body else None
        answer = self.client.request(request.verb, path, content=content, params=params, headers=headers)
        if answer.headers.get("content-type", "").startswith("text/"):
            return answer.status_code, answer.text
        if answer.headers.get("Content-Type", "").partition(";")[0] in DOCUMENTS:
            return answer.status_code, {"document": answer.headers["Content-Type"]}
        parsed = json.loads(answer.text) if answer.text.strip() else None
        for name, member in request.keep:
            found: Any = (parsed or {}).get("data")
            for step in member.split("."):
                found = found[step]
            self.kept[name] = str(found)
        return answer.status_code, parsed

    def beside(self, engine: str, **config: Any) -> Side:
        """Another new mount on the same server; the two share the client."""
        side = _prepare(self.client, engine)
        if config:
            side.system("POST", f"sys/mounts/{side.mount}/tune", config)
        return side

    def system(self, verb: str, path: str, body: Any = None) -> Any:
        """Something that must succeed, outside the mount."""
        answer = self.client.request(verb, path, content=None if body is None else json.dumps(body))
        assert answer.is_success, (path, answer.status_code, answer.text)
        return json.loads(answer.text) if answer.text.strip() else {}


def _prepare(client: httpx.Client, engine: str) -> Side:
    mount = f"{engine}-{secrets.token_hex(3)}"
    side = Side(client, mount)
    side.system("POST", f"sys/mounts/{mount}", {"type": engine})
    side.system("POST", "sys/policies/acl/nothing", {"policy": 'path "none" { capabilities = ["read"] }'})
    token = {"policies": ["nothing"], "no_default_policy": True}
    side.denied = side.system("POST", "auth/token/create", token)["auth"]["client_token"]
    return side


def ours(server: DevServer, engine: str = "transit") -> Side:
    """A new mount on a server of ours; the caller closes `client`."""
    headers = {"X-Vault-Token": server.token}
    client = httpx.Client(base_url=f"{server.address}/v1/", headers=headers, trust_env=False, timeout=60)
    return _prepare(client, engine)


@contextmanager
def theirs(engine: str = "transit") -> Iterator[Side]:
    """A new mount on a real server of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [str(BAO), "server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address={address}"]
    with (
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path("/")
        ) as process,
        httpx.Client(
            base_url=f"http://{address}/v1/", headers={"X-Vault-Token": "root"}, trust_env=False, timeout=60
        ) as client,
    ):
        try:
            _await(client)
            yield _prepare(client, engine)
        finally:
            process.terminate()


def _await(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            # The dev server mounts things while it answers already.
            if client.get("sys/mounts").is_success and client.get("sys/mounts/secret").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the real server did not start")
