"""Client certificates at our server and at the real one: the same answers, or allowed ones."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.auth.papers import Paper, Papers, client_of, crl
from tests.auth.shapes import form
from tests.differential.rules import Comparison, load
from tests.differential.sides import Request
from tests.harness.bao import BAO
from tests.harness.dev import clean_environment
from tests.harness.processes import free_port, wait_for
from tests.harness.tls import TlsServer

ALLOWED = Path(__file__).parent / "cert_allowed.toml"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address, CA) of a real server with TLS."""
    folder = tmp_path_factory.mktemp("peer")
    port = free_port()
    command = [str(BAO), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", "-dev-tls"]
    process = subprocess.Popen(
        [*command, f"-dev-tls-cert-dir={folder}", f"-dev-listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=clean_environment(folder),
    )
    ca = folder / "vault-ca.pem"
    address = f"https://127.0.0.1:{port}"

    def up() -> bool:
        if not ca.exists():
            return False
        try:
            context = ssl.create_default_context(cafile=str(ca))
            with client_of(address, context, None, folder, "root") as client:
                return client.get("sys/mounts/secret").is_success
        except (httpx.TransportError, ssl.SSLError):
            return False

    try:
        wait_for(up, 30, "bao with TLS")
        yield address, ca
    finally:
        process.terminate()
        process.wait(20)


def _entries(papers: Papers) -> Iterator[tuple[str, Any]]:
    root = papers.root.pem
    yield from (("config", None), ("certs/x", None), ("crls/x", None), ("?certs", None), ("?crls", None))
    configs: tuple[dict[str, Any], ...] = (
        {"ocsp_cache_size": 1},
        {"ocsp_cache_size": 100_001},
        {"disable_binding": True, "enable_identity_alias_metadata": True},
    )
    for body in configs:
        yield "config", body
    yield "config", None
    entries: tuple[dict[str, Any], ...] = (
        {},
        {"certificate": "x"},
        {"certificate": papers.server.pem},
        {"certificate": root, "token_type": "nope"},
        {"certificate": root, "token_ttl": "2h", "token_max_ttl": "1h"},
        {"certificate": root, "required_extensions": "2.1.1.1:A*", "policies": "a", "ttl": 60},
        {"allowed_names": "a,b", "display_name": "shown"},
    )
    for body in entries:
        yield "certs/one", body
        yield "certs/one", None
    yield "?certs", None
    lists: tuple[dict[str, Any], ...] = (
        {},
        {"crl": "x"},
        {"url": ""},
        {"crl": crl(papers.root, papers.app, papers.mail)},
    )
    for body in lists:
        yield "crls/one", body
        yield "crls/one", None
    yield "?crls", None
    yield from (("-crls/one", None), ("-crls/one", None), ("-certs/one", None), ("-certs/one", None))


DEMANDS: tuple[dict[str, Any], ...] = (
    {},
    {"allowed_names": "app"},
    {"allowed_names": "*.example.test"},
    {"allowed_common_names": "a*"},
    {"allowed_common_names": "A*"},
    {"allowed_dns_sans": "*.example.test,x"},
    {"allowed_email_sans": "*@example.test"},
    {"allowed_uri_sans": "spiffe://a/*"},
    {"allowed_organizational_units": "ops"},
    {"required_extensions": "2.1.1.1:A UTF8 S"},
    {"required_extensions": "2.1.1.1:A *"},
    {"required_extensions": "2.1.1.1:B*"},
    {"required_extensions": ["2.1.1.1:A*", "1.2.3.4:*"]},
    {"allowed_metadata_extensions": "2.1.1.1,2.5.29.14"},
    {"allowed_common_names": "ann", "allowed_email_sans": "nobody@*"},
)


@pytest.mark.slow
def test_requests_get_the_real_servers_answers(
    tls_server: TlsServer, peer: tuple[str, Path], papers: Papers, tmp_path: Path
) -> None:
    compared = Comparison(load(ALLOWED))
    sides = ((peer[0], peer[1], "root"), (tls_server.address, tls_server.trust, tls_server.token))
    path = f"cert-{time.monotonic_ns() % 0xFFFFFF:06x}"

    def ask(
        verb: str, where: str, body: Any = None, paper: Paper | None = None, what: str = "minimal"
    ) -> None:
        answers = []
        for address, ca, token in sides:
            context = ssl.create_default_context(cafile=str(ca))
            with client_of(address, context, paper, tmp_path, token) as client:
                got = client.request(verb, f"auth/{path}/{where}", json=body if verb == "POST" else None)
            answers.append((got.status_code, form(json.loads(got.text) if got.text.strip() else None)))
        compared.add(Request(verb, where, body, what=what), *answers)

    for address, ca, token in sides:
        with client_of(address, ssl.create_default_context(cafile=str(ca)), None, tmp_path, token) as client:
            assert client.post(f"sys/auth/{path}", json={"type": "cert"}).is_success
    ask("POST", "login", {})
    for where, body in _entries(papers):
        verb = (
            "LIST"
            if where[0] == "?"
            else "DELETE"
            if where[0] == "-"
            else "POST"
            if body is not None
            else "GET"
        )
        ask(verb, where.lstrip("?-"), body)
    for number, demand in enumerate(DEMANDS):
        ask(
            "POST",
            "certs/only",
            {"certificate": papers.root.pem, "token_policies": "p", **demand},
            what=str(number),
        )
        for name, paper in papers.all().items():
            ask("POST", "login", {}, paper, f"{number} {name}")
        ask("DELETE", "certs/only")
    ask("POST", "certs/own", {"certificate": papers.own.pem})
    ask("POST", "certs/ca", {"certificate": papers.own_ca.pem})
    ask("POST", "certs/app", {"certificate": papers.app.pem})
    ask("POST", "crls/one", {"crl": crl(papers.root, papers.mail)})
    for name, paper in papers.all().items():
        for wanted in ("", "own", "ca", "app", "none"):
            ask("POST", "login", {"name": wanted} if wanted else {}, paper, f"self {name}")
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:20])
    assert not compared.unused, compared.unused
    assert compared.requests >= 290
