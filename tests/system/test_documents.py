"""The plain listener: signed documents for everybody, and nothing else, whoever asks."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.harness import processes
from tests.harness.dev import ConfiguredServer

SERVED = [
    "ca",
    "ca/pem",
    "ca_chain",
    "crl",
    "crl/pem",
    "crl/delta",
    "issuer/default/der",
    "issuer/default/crl/der",
]
HIDDEN = [
    ("GET", "sys/health"),
    ("GET", "sys/seal-status"),
    ("POST", "sys/seal"),
    ("GET", "auth/token/lookup-self"),
    ("GET", "pki/cert/ca"),
    ("GET", "pki/config/crl"),
    ("GET", "pki/crl/rotate"),
    ("POST", "pki/revoke"),
    ("POST", "pki/issue/web"),
    ("GET", "pki/issuer/default/json"),
    ("GET", "pki/ocsp"),
    ("GET", "none/crl"),
]


@pytest.mark.timeout(120)
def test_documents_and_nothing_else(tmp_path: Path) -> None:
    server = ConfiguredServer(tmp_path / "server", workers=2)
    port = processes.free_port()
    server.prepare(lambda text: f'{text}\n[documents]\nlisten = "127.0.0.1:{port}"\n')
    server.start()
    try:
        with (
            server.api() as api,
            httpx.Client(base_url=f"http://127.0.0.1:{port}/v1/", trust_env=False) as plain,
        ):
            api.ok("POST", "sys/mounts/pki", {"type": "pki"})
            root = {"common_name": "Plain Root", "key_type": "ec"}
            issuer = x509.load_pem_x509_certificate(
                api.ok("POST", "pki/root/generate/internal", root)["certificate"].encode()
            )
            api.ok("POST", "pki/roles/web", {"allow_any_name": True, "key_type": "ec"})
            issued = api.ok("POST", "pki/issue/web", {"common_name": "a.example.test"})
            for path in SERVED:
                answer = plain.get(f"pki/{path}")
                assert answer.status_code == 200, path
                assert answer.content == api.get(f"pki/{path}").content
            leaf = x509.load_pem_x509_certificate(issued["certificate"].encode())
            request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, SHA256()).build()
            said = plain.post("pki/ocsp", content=request.public_bytes(Encoding.DER))
            assert ocsp.load_der_ocsp_response(said.content).certificate_status is ocsp.OCSPCertStatus.GOOD
            for verb, path in HIDDEN:
                answer = plain.request(verb, path, headers={"X-Vault-Token": server.token})
                assert answer.status_code == 404, path
            assert plain.get("../v1/pki//crl").status_code == 404
    finally:
        assert server.stop() == 0
