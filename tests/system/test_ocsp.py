"""OCSP and CRL shards of a real server with four workers, as relying parties use them."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.nginx import GREETING, Nginx
from tests.harness.workers import Line, one_to_each
from tests.pki.outside import lint_crl, lint_ocsp
from tests.system.authority import save

WORKERS = 4
ANSWERS = 50
REQUEST = "application/ocsp-request"


@dataclass(frozen=True)
class Ca:
    """A root on a mount of the shared server whose leaves name a shard and a responder."""

    api: Api
    server: DevServer
    path: str
    root: x509.Certificate

    @property
    def url(self) -> str:
        return f"{self.server.address}/v1/{self.path}"

    def issue(self, name: str = "a.example.test") -> dict[str, Any]:
        return self.api.ok("POST", f"{self.path}/issue/web", {"common_name": name})

    def revoke(self, leaf: dict[str, Any]) -> None:
        self.api.ok("POST", f"{self.path}/revoke", {"serial_number": leaf["serial_number"]})

    def pem(self) -> str:
        return self.root.public_bytes(Encoding.PEM).decode()


@pytest.fixture
def ca(server: DevServer, api: Api, mount: Callable[[str], str]) -> Ca:
    path = mount("pki")
    root = {"common_name": "OCSP Root", "key_type": "ec", "ttl": "720h"}
    made = api.ok("POST", f"{path}/root/generate/internal", root)
    url = f"{server.address}/v1/{path}"
    urls = {"crl_distribution_points": f"{url}/crl", "ocsp_servers": f"{url}/ocsp"}
    api.ok("POST", f"{path}/config/urls", urls)
    api.ok("POST", f"{path}/config/crl", {"shards": 8})
    api.ok("POST", f"{path}/roles/web", {"allow_any_name": True, "key_type": "ec", "max_ttl": "72h"})
    return Ca(api, server, path, x509.load_pem_x509_certificate(made["certificate"].encode()))


@pytest.fixture
def lines(server: DevServer) -> Iterator[list[Line]]:
    """Kept connections to every worker."""
    made = one_to_each(server, WORKERS)
    yield made
    for line in made:
        line.close()


def asked(ca: Ca, leaf: dict[str, Any]) -> bytes:
    certificate = x509.load_pem_x509_certificate(leaf["certificate"].encode())
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, ca.root, SHA256())
    return builder.build().public_bytes(Encoding.DER)


def status(answer: bytes) -> ocsp.OCSPCertStatus:
    return ocsp.load_der_ocsp_response(answer).certificate_status


def shard(leaf: dict[str, Any]) -> str:
    """The path of the CRL that a certificate names."""
    certificate = x509.load_pem_x509_certificate(leaf["certificate"].encode())
    point = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0]
    assert point.full_name is not None
    return "/" + str(point.full_name[0].value).split("/", 3)[3]


def test_right_after_the_answer_every_worker_and_the_shard_say_revoked(ca: Ca, lines: list[Line]) -> None:
    post = f"/v1/{ca.path}/ocsp"
    for _ in range(4):
        leaf = ca.issue()
        data, path = asked(ca, leaf), shard(leaf)
        for line in lines:  # all workers keep an answer, and the shard
            assert status(line.ask("POST", post, data, REQUEST)[1]) is ocsp.OCSPCertStatus.GOOD
            assert line.ask("GET", path)[0] == 200
        ca.revoke(leaf)
        fresh = Line(ca.server)
        crl = x509.load_der_x509_crl(fresh.ask("GET", path)[1])
        serial = int(leaf["serial_number"].replace(":", ""), 16)
        said = [status(lines[at % len(lines)].ask("POST", post, data, REQUEST)[1]) for at in range(ANSWERS)]
        fresh.close()
        assert crl.get_revoked_certificate_by_serial_number(serial) is not None
        assert said == [ocsp.OCSPCertStatus.REVOKED] * ANSWERS
        for line in lines:
            found = x509.load_der_x509_crl(line.ask("GET", path)[1])
            assert found.get_revoked_certificate_by_serial_number(serial) is not None


def test_get_in_every_spelling_of_the_url(ca: Ca) -> None:
    leaf = ca.issue()
    data = asked(ca, leaf)
    text = base64.b64encode(data).decode()
    line = Line(ca.server)
    wanted = line.ask("POST", f"/v1/{ca.path}/ocsp", data, REQUEST)
    assert wanted[0] == 200
    for spelling in (text, quote(text, safe=""), f"/{text}", text.rstrip("=")):
        assert line.ask("GET", f"/v1/{ca.path}/ocsp/{spelling}") == wanted, spelling
    slashes = "MFQw//+/" + text
    assert line.ask("GET", f"/v1/{ca.path}/ocsp/{slashes}") == (200, b"\x30\x03\x0a\x01\x01")
    answer = ca.api.call("GET", f"{ca.path}/ocsp/{quote(text, safe='')}")
    assert answer.headers["content-type"] == "application/ocsp-response"
    assert answer.headers["cache-control"] == "max-age=300, public, no-transform, must-revalidate"
    assert answer.headers["etag"]
    head = ca.api.call("HEAD", f"{ca.path}/ocsp/{quote(text, safe='')}")
    assert (head.status, head.content) == (200, b"")
    for body in (b"", b"x", bytes(20_000)):
        assert line.ask("POST", f"/v1/{ca.path}/ocsp", body, REQUEST) == (200, b"\x30\x03\x0a\x01\x01")
    line.close()
    assert lint_ocsp(wanted[1]) == []
    assert lint_crl(ca.api.get(shard(leaf).removeprefix("/v1/")).content) == []


@dataclass(frozen=True)
class Files:
    leaf: Path
    root: Path


def files(ca: Ca, leaf: dict[str, Any], folder: Path) -> Files:
    found = Files(folder / "leaf.pem", folder / "root.pem")
    found.leaf.write_text(leaf["certificate"] + "\n")
    found.root.write_text(ca.pem())
    return found


def output(*command: str) -> str:
    program, *rest = command
    done = subprocess.run(
        [processes.program(program), *rest], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def by_openssl(ca: Ca, paths: Files, _: Path) -> str:
    root = str(paths.root)
    asks = ["-issuer", root, "-cert", str(paths.leaf), "-url", f"{ca.url}/ocsp", "-CAfile", root]
    said = output("openssl", "ocsp", *asks)
    assert "Response verify OK" in said, said
    assert "WARNING" not in said, said  # of a nonce that was not repeated
    return said


def by_gnutls(ca: Ca, paths: Files, _: Path) -> str:
    root = str(paths.root)
    asks = [
        f"--ask={ca.url}/ocsp",
        "--load-issuer",
        root,
        "--load-cert",
        str(paths.leaf),
        "--load-trust",
        root,
    ]
    said = output("ocsptool", *asks)
    assert "Verifying OCSP Response: Success" in said, said
    return said


def by_nss(_: Ca, paths: Files, folder: Path) -> str:
    database = f"sql:{folder}"
    output("certutil", "-N", "-d", database, "--empty-password")
    output("certutil", "-A", "-d", database, "-n", "root", "-t", "CT,C,C", "-i", str(paths.root))
    # The responder is the one that the certificate names; no answer is a failure.
    asks = ["-pp", "-g", "leaf", "-h", "requireFreshInfo", "-m", "ocsp", "-s", "failIfNoInfo"]
    return output("vfychain", "-d", database, *asks, "-u", "1", "-a", str(paths.leaf))


CLIENTS: dict[str, tuple[Callable[[Ca, Files, Path], str], str, str]] = {
    "openssl": (by_openssl, ": good", ": revoked"),
    "gnutls": (by_gnutls, "Certificate Status: good", "Certificate Status: revoked"),
    "nss": (by_nss, "Chain is good!", "revoked"),
}


@pytest.mark.parametrize(("client", "good", "revoked"), CLIENTS.values(), ids=CLIENTS.keys())
def test_clients_see_good_then_revoked(
    ca: Ca, tmp_path: Path, client: Callable[[Ca, Files, Path], str], good: str, revoked: str
) -> None:
    leaf = ca.issue()
    paths = files(ca, leaf, tmp_path)
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    said = client(ca, paths, tmp_path / "before")
    assert good in said, said
    ca.revoke(leaf)
    said = client(ca, paths, tmp_path / "after")
    assert revoked in said, said


def test_nginx_asks_about_its_clients_and_staples_its_own(ca: Ca, nginx: Nginx, tmp_path: Path) -> None:
    own = save(ca.issue("localhost"), tmp_path, "own")
    first, second = (save(ca.issue(name), tmp_path, name) for name in ("first", "second"))
    crl = ca.api.get(f"{ca.path}/crl/pem").content.decode()
    nginx.put(
        server_pem=own.certificate.read_text(),
        server_key=own.key.read_text(),
        clients_pem=ca.pem(),
        crl_pem=crl,
    )
    ca.api.ok(
        "POST", f"{ca.path}/revoke", {"serial_number": second.serial}
    )  # the CRL that nginx has is older
    url = f"{ca.url}/ocsp"
    nginx.start(
        f"ssl_ocsp leaf; ssl_ocsp_responder {url}; ssl_stapling on; ssl_stapling_verify on;"
        f" ssl_stapling_responder {url}; ssl_trusted_certificate {nginx.prefix}/clients.pem;"
    )
    root = tmp_path / "root.pem"
    root.write_text(ca.pem())
    assert GREETING in nginx.visit(root, first.certificate, first.key).stdout
    assert GREETING not in nginx.visit(root, second.certificate, second.key).stdout
    identity = ["-cert", str(first.certificate), "-key", str(first.key), "-CAfile", str(root)]
    address = f"127.0.0.1:{nginx.port}"

    def stapled() -> bool:
        said = subprocess.run(
            [processes.program("openssl"), "s_client", "-status", "-connect", address, *identity],
            input="",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        ).stdout
        return "Cert Status: good" in said

    # nginx fetches it after the first handshake
    processes.wait_for(stapled, 30, lambda: (nginx.prefix / "error.log").read_text()[-3000:])
