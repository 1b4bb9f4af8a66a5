"""Logins with client certificates: over TLS to our server and through nginx, and every lie."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from tests.auth.conftest import PROXY
from tests.auth.papers import CUSTOM, SERVER, Paper, Papers, authority, client_of, crl, leaf
from tests.harness.api import Answer, Api
from tests.harness.bao import Bao
from tests.harness.documents import Documents
from tests.harness.nginx import Nginx
from tests.harness.tls import TlsServer


@pytest.fixture
def api(tls_server: TlsServer) -> Iterator[Api]:
    with tls_server.api() as client:
        yield client


@dataclass
class Method:
    """The method, mounted on our server."""

    api: Api
    server: TlsServer
    path: str
    folder: Path

    def write(self, name: str, **fields: Any) -> None:
        self.api.ok("POST", f"auth/{self.path}/certs/{name}", fields)

    def client(self, paper: Paper | None, token: str = "") -> httpx.Client:
        return client_of(self.server.address, self.server.context(), paper, self.folder, token)

    def login(self, paper: Paper | None, name: str = "") -> Answer:
        with self.client(paper) as client:
            return _answer(client.post(f"auth/{self.path}/login", json={"name": name} if name else {}))

    def refused(self, paper: Paper | None, text: str, name: str = "") -> None:
        answer = self.login(paper, name)
        assert (answer.status, answer.errors) == (400, [text])


def _answer(got: httpx.Response) -> Answer:
    return Answer(got.status_code, dict(got.headers), got.content)


NOBODY = "invalid certificate or no client certificate supplied"
NO_CHAIN = "no chain matching all constraints could be found for this login certificate"


@pytest.fixture
def method(api: Api, tls_server: TlsServer, tmp_path: Path) -> Method:
    path = f"cert-{time.monotonic_ns()}"
    api.ok("POST", f"sys/auth/{path}", {"type": "cert"})
    return Method(api, tls_server, path, tmp_path)


# -- as its users use it -----------------------------------------------------------------------------------


def test_bao_logs_in_directly_and_through_nginx(
    method: Method, papers: Papers, nginx: Nginx, tmp_path: Path
) -> None:
    method.write("web", certificate=papers.root.pem, token_policies="web", token_ttl="1h", display_name="Web")
    certificate, key = papers.app.save(tmp_path, "app")
    flags = [
        f"-path={method.path}",
        "-no-store",
        "-format=json",
        f"-client-cert={certificate}",
        f"-client-key={key}",
    ]
    direct = Bao(method.server.address, "", tmp_path)
    direct.environment["BAO_CACERT"] = str(method.server.trust)
    auth = json.loads(direct("login", "-method=cert", *flags))["auth"]
    assert auth["metadata"]["common_name"] == "app"
    assert auth["token_policies"] == ["default", "web"]
    with method.server.api(auth["client_token"]) as owner:
        assert owner.get("auth/token/lookup-self").data["display_name"] == f"{method.path}-Web"

    own = papers.root
    front = leaf(own, "localhost", sans=[x509.DNSName("localhost")], usages=[SERVER])
    chain, front_key = front.save(tmp_path, "front")
    nginx.put(
        server_pem=Path(chain).read_text(),
        server_key=Path(front_key).read_text(),
        clients_pem=own.pem + papers.middle.pem,
        crl_pem=crl(own) + crl(papers.middle),
    )
    # The proxy hands on the certificate alone; so the entry must know its issuer.
    method.write("web", certificate=papers.middle.pem, token_policies="web")
    nginx.start(
        "location /v1/ {\n"
        f"proxy_pass {method.server.address};\nproxy_bind {PROXY};\nproxy_ssl_verify off;\n"
        "proxy_set_header Client-Cert $ssl_client_escaped_cert;\n}"
    )
    through = Bao(nginx.address.rstrip("/"), "", tmp_path)
    (tmp_path / "front-ca.pem").write_text(own.pem)
    through.environment["BAO_CACERT"] = str(tmp_path / "front-ca.pem")
    auth = json.loads(through("login", "-method=cert", *flags, "name=web"))["auth"]
    assert auth["metadata"]["cert_name"] == "web"
    # From anywhere else the header is nothing.
    text = base64.b64encode(papers.app.certificate.public_bytes(Encoding.DER)).decode()
    with method.client(None) as stranger:
        header = {"Client-Cert": f":{text}:"}
        assert stranger.post(f"auth/{method.path}/login", headers=header).status_code == 400


def test_every_lie(method: Method, papers: Papers) -> None:
    method.write("root", certificate=papers.root.pem)
    assert method.login(papers.app).status == 200
    assert method.login(papers.app, "ROOT").status == 200
    method.refused(papers.app, NOBODY, "nothing")
    for paper in (papers.stranger, papers.expired, papers.early, papers.server, papers.own, papers.twin):
        method.refused(paper, NOBODY)
    alone = Paper(papers.app.certificate, papers.app.key)
    method.refused(alone, NOBODY)  # without its intermediate there is no path
    impostor = authority("Root")
    method.refused(leaf(impostor, "app"), NOBODY)
    two = leaf(papers.root, names=["app", "root"])
    method.refused(two, "the client certificate has more than one common name")
    answer = method.login(None)
    assert answer.status == 400
    assert answer.errors[0].startswith("client certificate must be supplied")


def test_a_leaf_is_no_authority(method: Method, papers: Papers) -> None:
    method.write("root", certificate=papers.root.pem)
    method.refused(leaf(papers.plain, "child"), NOBODY)


def test_a_trusted_certificate_is_compared_whole(method: Method, papers: Papers) -> None:
    """Another one of the same name, issuer and serial is another one (HCSEC-2025-18)."""
    method.write("own", certificate=papers.own.pem)
    assert method.login(papers.own).status == 200
    assert papers.twin.certificate.serial_number == papers.own.certificate.serial_number
    method.refused(papers.twin, NOBODY)
    method.write("ca", certificate=papers.own_ca.pem)
    assert method.login(papers.own_ca).json["auth"]["metadata"]["cert_name"] == "ca"


def test_renewal_wants_the_same_certificate(method: Method, papers: Papers) -> None:
    method.write("root", certificate=papers.root.pem, token_ttl="1h", token_policies="web")
    auth = method.login(papers.app).json["auth"]
    token = auth["client_token"]

    def renew(paper: Paper | None, path: str = "renew-self", body: Any = None, by: str = "") -> Answer:
        with method.client(paper, by or token) as client:
            return _answer(client.post(f"auth/token/{path}", json=body or {}))

    same_key = leaf(papers.middle, "app", key=papers.app.key)
    assert renew(papers.app).status == 200
    for other in (papers.mail, same_key, papers.stranger, None):
        assert renew(other).status == 400
    accessor = {"accessor": auth["accessor"]}
    assert renew(None, "renew-accessor", accessor, method.server.token).status == 400
    assert renew(None, "renew", {"token": token}, method.server.token).status == 400
    assert renew(papers.app, "renew-accessor", accessor, method.server.token).status == 200
    method.api.ok("POST", f"auth/{method.path}/crls/now", {"crl": crl(papers.middle, papers.app)})
    assert renew(papers.app).errors == [NO_CHAIN]
    method.api.ok("DELETE", f"auth/{method.path}/crls/now")
    method.api.ok("POST", f"auth/{method.path}/config", {"disable_binding": True})
    assert renew(None).status == 200
    method.write("root", certificate=papers.root.pem, token_policies="other")
    assert renew(papers.app).errors == ["policies have changed, not renewing"]


def test_names_and_metadata(method: Method, papers: Papers) -> None:
    method.write("mail", certificate=papers.root.pem, allowed_metadata_extensions=CUSTOM.dotted_string)
    meta = method.login(papers.mail).json["auth"]["metadata"]
    assert meta["2-1-1-1"] == "A UTF8 S"
    assert meta["serial_number"] == str(papers.mail.certificate.serial_number)
    assert method.login(papers.mesh).json["auth"]["entity_id"] == "", "no common name, nobody"
    for bad in ("1.2.3", "x:y", "1..2:z"):
        answer = method.api.post(f"auth/{method.path}/certs/mail", {"required_extensions": bad})
        assert answer.status == 400


# -- revocation --------------------------------------------------------------------------------------------


def test_lists_count_for_their_own_issuer(method: Method, papers: Papers) -> None:
    method.write("root", certificate=papers.root.pem)
    crls = f"auth/{method.path}/crls"
    same_serial = leaf(papers.other, "x", serial=papers.mail.certificate.serial_number)
    method.api.ok("POST", f"{crls}/other", {"crl": crl(papers.other, same_serial)})
    assert method.login(papers.mail).status == 200, "another authority's serial"
    method.api.ok("POST", f"{crls}/root", {"crl": crl(papers.root, papers.mail)})
    method.refused(papers.mail, NO_CHAIN)
    shown = method.api.get(f"{crls}/root").data
    assert shown == {"serials": {str(papers.mail.certificate.serial_number): {}}}
    assert method.login(papers.app).status == 200
    method.api.ok("POST", f"{crls}/root", {"crl": crl(papers.root, papers.middle)})
    method.refused(papers.app, NO_CHAIN)  # its intermediate
    method.api.ok("DELETE", f"{crls}/root")
    assert method.login(papers.app).status == 200
    assert method.api.post(f"{crls}/x", {"crl": "nonsense"}).status == 400
    assert method.api.get(f"{crls}/x").errors == ["no such CRL x"]


def test_a_list_is_fetched_and_fetched_again(method: Method, papers: Papers, documents: Documents) -> None:
    method.write("root", certificate=papers.root.pem)
    crls = f"auth/{method.path}/crls"
    documents.content = crl(papers.other, papers.mail).encode()
    assert "signed by nobody" in method.api.post(f"{crls}/root", {"url": documents.url}).errors[0]
    documents.content = crl(papers.root, papers.mail, signer=papers.other).encode()
    assert "signed by nobody" in method.api.post(f"{crls}/root", {"url": documents.url}).errors[0]
    documents.content = crl(papers.root, papers.mail).encode()
    method.api.ok("POST", f"{crls}/root", {"url": documents.url})
    method.refused(papers.mail, NO_CHAIN)
    assert method.api.get(f"{crls}/root").data["cdp"]["url"] == documents.url
    for url in ("file:///etc/passwd", "ftp://x/y", "http://u@127.0.0.1/", "nonsense"):
        assert method.api.post(f"{crls}/root", {"url": url}).status == 400
    method.refused(papers.mail, NO_CHAIN)  # what was there stayed


def test_responders_are_asked_and_believed_by_signature(
    method: Method, papers: Papers, documents: Documents
) -> None:
    ocsp_fields: dict[str, Any] = {"ocsp_enabled": True, "ocsp_servers_override": documents.url}
    method.write("root", certificate=papers.root.pem, **ocsp_fields)
    delegate = leaf(papers.root, "responder", usages=[ExtendedKeyUsageOID.OCSP_SIGNING])
    no_delegate = leaf(papers.root, "responder")
    root, mail, plain = papers.root, papers.mail, papers.plain
    good, revoked = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED
    for content, accepted in (
        (b"nonsense", False),
        (_response(plain, root, root, good), False),  # about another certificate
        (_response(mail, root, papers.other, good), False),
        (_response(mail, root, no_delegate, good), False),
        (_response(mail, root, root, ocsp.OCSPCertStatus.UNKNOWN), False),
        (_response(mail, root, root, revoked), False),
        (_response(mail, root, root, good, ended=True), False),
        (_response(mail, root, root, good, nonce=b"another nonce..."), False),
        (_response(mail, root, delegate, good), True),
    ):
        documents.content = content
        answer = method.login(mail)
        assert (answer.status == 200) is accepted, answer.content
    documents.content = _response(mail, root, root, revoked)
    assert method.login(mail).status in {200, 400}, "an answer is kept as long as it says, by each worker"
    method.write("root", ocsp_fail_open=True)
    documents.content = _response(plain, root, root, revoked)
    method.refused(plain, NO_CHAIN)
    documents.content = b"nonsense"
    assert method.login(plain).status == 200


def test_what_the_certificate_names_as_responder_is_not_on_this_machine(
    method: Method, papers: Papers, documents: Documents
) -> None:
    place = x509.AccessDescription(
        AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(documents.url)
    )
    named = leaf(papers.root, "named", more=[x509.AuthorityInformationAccess([place])])
    documents.content = _response(named, papers.root, papers.root, ocsp.OCSPCertStatus.GOOD)
    method.write("root", certificate=papers.root.pem, ocsp_enabled=True)
    method.refused(named, f"{NO_CHAIN}; additionally no OCSP responder vouched for it")
    assert documents.asked == 0


def _response(
    paper: Paper,
    issuer: Paper,
    signer: Paper,
    status: ocsp.OCSPCertStatus,
    *,
    ended: bool = False,
    nonce: bytes = b"",
) -> bytes:
    now = dt.datetime.now(dt.UTC)
    began, ends = (
        (now - dt.timedelta(days=2), now - dt.timedelta(days=1))
        if ended
        else (now, now + dt.timedelta(days=1))
    )
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        paper.certificate,
        issuer.certificate,
        hashes.SHA1(),  # noqa: S303  (names the issuer, and protects nothing)
        status,
        began,
        ends,
        now if revoked else None,
        None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    builder = builder.certificates([signer.certificate])
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)
