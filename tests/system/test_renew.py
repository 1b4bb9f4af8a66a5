"""A leaf renews itself with curl: its own certificate in the handshake and a CSR, and no token."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.harness.tls import TlsServer

ROLE = {"allowed_domains": ["example.com"], "allow_subdomains": True, "key_type": "ec", "renewable": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A server that asks for client certificates, with a CA and a role."""
    running = TlsServer(tmp_path_factory.mktemp("renew"))
    try:
        running.setup()
        with running.api() as api:
            api.ok("POST", "sys/mounts/pki", {"type": "pki"})
            api.ok("POST", "pki/root/generate/internal", {"common_name": "Root", "key_type": "ec"})
            api.ok("POST", "pki/roles/web", ROLE)
        yield running
    finally:
        running.stop()


@dataclass
class Workload:
    """Holds a certificate and its key in files, as a client does."""

    server: TlsServer
    folder: Path

    def keep(self, data: dict[str, Any], key: str = "") -> None:
        (self.folder / "leaf.pem").write_text(data["certificate"] + "\n")
        if key:
            (self.folder / "leaf.key").write_text(key + "\n")

    def request(self) -> str:
        """A CSR for a new key, which waits beside the old one."""
        command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-keyout", str(self.folder / "next.key"), "-subj", "/CN=a.example.com"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def renew(self, csr: str, *options: str) -> tuple[int, dict[str, Any]]:
        """One POST without a token."""
        command = ["curl", "-s", "--cacert", str(self.server.trust), "-w", "\n%{http_code}"]
        if (self.folder / "leaf.pem").exists():
            command += ["--cert", str(self.folder / "leaf.pem"), "--key", str(self.folder / "leaf.key")]
        command += [*options, "-d", json.dumps({"csr": csr}), f"{self.server.address}/v1/pki/renew"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)


@pytest.fixture
def workload(server: TlsServer, tmp_path: Path) -> Workload:
    return Workload(server, tmp_path)


def test_a_workload_renews_itself_again_and_again(
    server: TlsServer, workload: Workload, tmp_path: Path
) -> None:
    with server.api() as api:
        first = api.post("pki/issue/web", {"common_name": "a.example.com"}).json["data"]
        workload.keep(first, first["private_key"])
        seen = {first["serial_number"]}
        for _ in range(2):
            status, answer = workload.renew(workload.request())
            assert status == 200, answer
            workload.keep(answer["data"])
            (tmp_path / "next.key").rename(tmp_path / "leaf.key")
            seen.add(answer["data"]["serial_number"])
        assert len(seen) == 3
        csr = workload.request()
        keyed = [workload.renew(csr, "-H", 'Idempotency-Key: "once"') for _ in range(2)]
        assert keyed[0][0] == keyed[1][0] == 200
        assert keyed[0][1]["data"] == keyed[1][1]["data"]
        with server.api() as operator:
            operator.ok("POST", "pki/revoke", {"serial_number": answer["data"]["serial_number"]})
        status, answer = workload.renew(workload.request())
        assert (status, answer["errors"]) == (401, ["the client certificate is revoked"])


def test_nobody_renews_without_a_certificate(workload: Workload) -> None:
    status, answer = workload.renew(workload.request())
    assert status == 401
    assert "no client certificate was presented" in answer["errors"][0]
    # A header is nothing from a stranger.
    status, answer = workload.renew(workload.request(), "-H", "Client-Cert: :MIIB:")
    assert status == 401
