"""HAProxy and Envoy pass on what the CA's responder says of their own certificate, and clients act on it.

Neither asks a responder about its clients (they take CRLs for that: test_proxies.py; nginx does both: test_ocsp.py).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.harness import processes
from tests.harness.proxies import HELLO, Envoy, HaProxy, Papers
from tests.system.authority import save
from tests.system.test_ocsp import Ca, ca

__all__ = ["ca"]

INVALID_STATUS = 91  # CURLE_SSL_INVALIDCERTSTATUS


@pytest.fixture(params=[HaProxy, Envoy], ids=["haproxy", "envoy"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HaProxy | Envoy]:
    running: HaProxy | Envoy = request.param(tmp_path / "proxy")
    yield running
    running.stop()


def curl(port: int, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A client that wants a stapled answer and believes it."""
    name = f"localhost:{port}"
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "30", "--cacert", str(folder / "root.pem")]
    whole = [processes.program(command[0]), *command[1:], "--resolve", f"{name}:127.0.0.1", *more]
    return subprocess.run([*whole, f"https://{name}/"], capture_output=True, text=True, check=False)


def test_a_client_sees_good_then_revoked(ca: Ca, proxy: HaProxy | Envoy, tmp_path: Path) -> None:
    own = ca.issue("localhost")
    (tmp_path / "root.pem").write_text(ca.pem())
    visitor = save(ca.issue("visitor"), tmp_path, "visitor")
    identity = ("--cert", str(visitor.certificate), "--key", str(visitor.key))

    def staple() -> bytes:
        leaf = x509.load_pem_x509_certificate(own["certificate"].encode())
        request = ocsp.OCSPRequestBuilder().add_certificate(leaf, ca.root, SHA1()).build()  # noqa: S303  (all they know)
        headers = {"Content-Type": "application/ocsp-request"}
        return ca.api.call(
            "POST", f"{ca.path}/ocsp", raw=request.public_bytes(Encoding.DER), headers=headers
        ).content

    def said(status: int) -> bool:
        done = curl(proxy.port, tmp_path, "--cert-status", *identity)
        return done.returncode == status and (HELLO in done.stdout) == (status == 0)

    crl = ca.api.get(f"{ca.path}/crl/pem").content.decode()
    chain = f"{own['certificate']}\n{ca.pem()}"
    papers = Papers(chain, own["private_key"] + "\n", ca.pem(), crl, staple())
    proxy.start(papers)
    processes.wait_for(
        partial(said, 0), 30, lambda: curl(proxy.port, tmp_path, "--cert-status", *identity).stderr
    )
    ca.revoke(own)
    proxy.staple(replace(papers, staple=staple()))
    processes.wait_for(partial(said, INVALID_STATUS), 30, "the client refuses the revoked server")
