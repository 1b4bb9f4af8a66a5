"""Enrolment and re-enrolment by strongSwan and by curl, and what is refused."""

from __future__ import annotations

import base64
import email
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, pkcs7

from tests.harness import processes
from tests.harness.api import Api
from tests.harness.tls import WORKERS, TlsServer
from tests.harness.workers import replace

NAME = "device.example.test"
ROLE = {
    "allowed_domains": "example.test",
    "allow_subdomains": True,
    "key_type": "ec",
    "key_bits": 256,
    "ttl": "1h",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A TLS server of this file, with one mount that answers EST."""
    running = TlsServer(tmp_path_factory.mktemp("tls"), proxy="127.0.0.2/32")
    running.setup()
    with running.api() as api:
        api.ok("POST", "sys/mounts/pki", {"type": "pki"})
        root = {"common_name": "EST Root", "key_type": "ec", "issuer_name": "root"}
        api.ok("POST", "pki/root/generate/internal", root)
        api.ok("POST", "pki/roles/device", ROLE)
        api.ok("POST", "pki/roles/other", ROLE)
        api.ok("POST", "pki/config/est", CONFIG)
    yield running
    running.stop()


CONFIG = {
    "enabled": True,
    "default_mount": True,
    "default_path_policy": "role:device",
    "label_to_path_policy": {"factory": "role:device", "lab": "sign-verbatim"},
    "authenticators": ["cert", "password", "token"],
}


@pytest.fixture
def api(server: TlsServer) -> Iterator[Api]:
    with server.api() as client:
        yield client


class Device:
    """A key, a request, and curl."""

    def __init__(self, folder: Path, server: TlsServer, name: str = NAME) -> None:
        self.folder, self.server = folder, server
        self.key, self.csr = folder / "key.pem", folder / "csr.der"
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(self.key))
        self.request(name)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def request(self, name: str) -> bytes:
        """A new request with the same key; its DER."""
        names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        self._openssl("req", "-new", "-key", str(self.key), "-outform", "DER", "-out", str(self.csr), *names)
        return self.csr.read_bytes()

    def curl(self, path: str, *arguments: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        """Status, head and body of one request below the server."""
        head, out = self.folder / "head", self.folder / "out"
        command = ["curl", "-sS", "--noproxy", "*", "--max-time", "60", "--cacert", str(self.server.trust)]
        if body is not None:
            sent = self.folder / "body"
            sent.write_bytes(body)
            command += ["--data-binary", f"@{sent}", "-H", "Content-Type: application/pkcs10"]
        command += ["-D", str(head), "-o", str(out), "-w", "%{http_code}", *arguments]
        done = subprocess.run(
            [*command, self.server.address + path], capture_output=True, text=True, check=True
        )
        answer = out.read_bytes() if out.exists() else b""
        if not done.stdout.startswith("2"):
            print(path, done.stdout, answer)  # shown when a test fails
        return int(done.stdout), head.read_text(), answer

    def enroll(self, path: str, *arguments: str, body: bytes | None = None) -> x509.Certificate:
        """Enrol, which must succeed; the certificate, written to cert.pem."""
        sent = base64.encodebytes(self.csr.read_bytes()) if body is None else body
        status, head, answer = self.curl(path, *arguments, body=sent)
        assert status == 200, answer
        assert "application/pkcs7-mime; smime-type=certs-only" in head
        (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
        (self.folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        return certificate

    @property
    def identity(self) -> tuple[str, ...]:
        """Curl's arguments for the certificate."""
        return ("--cert", str(self.folder / "cert.pem"), "--key", str(self.key))


@pytest.fixture
def device(tmp_path: Path, server: TlsServer) -> Device:
    return Device(tmp_path, server)


WELL_KNOWN = "/.well-known/est"


def test_strongswan_enrols_and_renews(server: TlsServer, tmp_path: Path) -> None:
    pki = processes.program("pki")

    def run(*arguments: str, **more: str) -> bytes:
        done = subprocess.run(
            [pki, *arguments], capture_output=True, check=False, env={"HOME": str(tmp_path), **more}
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    trust = str(server.trust)
    key, csr = tmp_path / "k.pem", tmp_path / "r.pem"
    run(
        "--estca",
        "--url",
        server.address,
        "--cacert",
        trust,
        "--caout",
        str(tmp_path / "ca"),
        "--outform",
        "pem",
        "--force",
    )
    key.write_bytes(run("--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem"))
    name = ("--dn", f"CN={NAME}", "--san", NAME, "--outform", "pem")
    csr.write_bytes(run("--req", "--type", "ecdsa", "--in", str(key), *name))
    cas = [part for path in sorted(tmp_path.glob("ca*")) for part in ("--cacert", str(path))]
    enrol = ("--est", "--url", server.address, "--in", str(csr), "--cacert", trust, *cas, "--outform", "pem")
    first = run(*enrol, "--userpass", f"device:{server.token}")
    (tmp_path / "first.pem").write_bytes(first)
    identity = ("--cert", str(tmp_path / "first.pem"), "--key", str(key))
    second = run(*enrol, *identity)
    old, new = (x509.load_pem_x509_certificate(pem) for pem in (first, second))
    assert old.subject == new.subject
    assert old.serial_number != new.serial_number


def test_the_first_request_of_a_worker_may_be_for_a_well_known_path(device: Device) -> None:
    """Which mount it stands for is in sealed rows, and a new worker has not opened the keyring yet."""
    replace(device.server, WORKERS, WORKERS)
    for _ in range(2 * WORKERS):
        status, _, answer = device.curl(f"{WELL_KNOWN}/cacerts")
        assert status == 200, answer


def test_every_proof(device: Device, api: Api) -> None:
    path = f"{WELL_KNOWN}/simpleenroll"
    status, head, text = device.curl(path, body=base64.b64encode(device.csr.read_bytes()))
    assert (status, "WWW-Authenticate: Basic" in head) == (401, True), text
    root = device.server.token
    # A token, in each place where one may stand; and each spelling of a body.
    der = device.csr.read_bytes()
    for arguments in (
        ("-u", f"x:{root}"),
        ("-H", f"X-Vault-Token: {root}"),
        ("-H", f"Authorization: Bearer {root}"),
    ):
        device.enroll(path, *arguments)
    for body in (base64.b64encode(der), base64.encodebytes(der).replace(b"\n", b"\r\n"), der):
        device.enroll(path, "-u", f"x:{root}", body=body)
    # A token needs the policy of the path that the well-known one stands for.
    api.ok(
        "POST",
        "sys/policies/acl/est",
        {"policy": 'path "pki/est/simpleenroll" { capabilities = ["update"] }'},
    )
    token = api.post("auth/token/create", {"policies": ["est"]}).json["auth"]["client_token"]
    device.enroll(path, "-u", f"x:{token}")
    assert device.curl(f"{WELL_KNOWN}/factory/simpleenroll", "-u", f"x:{token}", body=der)[0] == 403
    assert device.curl(path, "-u", "x:nonsense", body=der)[0] in {401, 403}
    # A device's password, and only under its roles.
    made = api.ok("POST", "pki/est-users/dev-1", {"roles": "device"})
    user = ("-u", f"dev-1:{made['password']}")
    device.enroll(f"{WELL_KNOWN}/factory/simpleenroll", *user)
    assert device.curl(f"{WELL_KNOWN}/lab/simpleenroll", *user, body=der)[0] == 403
    assert device.curl("/v1/pki/roles/other/est/simpleenroll", *user, body=der)[0] == 403
    assert device.curl(path, "-u", "dev-1:wrong", body=der)[0] == 401
    api.ok("DELETE", "pki/est-users/dev-1")
    assert device.curl(path, *user, body=der)[0] in {401, 403}
    # The certificate that it got.
    device.enroll(path, *device.identity)
    assert device.curl("/v1/pki/roles/other/est/simpleenroll", *device.identity, body=der)[0] == 403
    other = device.request("other.example.test")
    for name in ("simpleenroll", "serverkeygen"):
        assert device.curl(f"{WELL_KNOWN}/{name}", *device.identity, body=other)[0] == 400


def test_users_of_an_auth_mount(device: Device, api: Api) -> None:
    """As Vault has it: authenticators name the accessor of a userpass mount; its users' policies decide."""
    api.ok("POST", "sys/auth/people", {"type": "userpass"})
    allowed = 'path "pki/est/people/simpleenroll" { capabilities = ["update"] }'
    api.ok("POST", "sys/policies/acl/people", {"policy": allowed})
    user = {"password": "correct horse", "token_policies": "people"}
    api.ok("POST", "auth/people/users/anna", user)
    api.ok("POST", "auth/people/users/otto", {"password": "battery staple"})
    accessor = api.ok("GET", "sys/auth")["people/"]["accessor"]
    labels = {**CONFIG["label_to_path_policy"], "people": "role:device"}  # type: ignore[dict-item]
    who = {"cert": {}, "password": {}, "token": {}, "userpass": {"accessor": accessor}}
    change = {"label_to_path_policy": labels, "authenticators": who}
    assert api.ok("POST", "pki/config/est", change)["authenticators"] == who
    path, body = f"{WELL_KNOWN}/people/simpleenroll", base64.b64encode(device.csr.read_bytes())
    try:
        device.enroll(path, "-u", "anna:correct horse")
        device.enroll(path, "-u", f"token:{device.server.token}")
        assert device.curl(path, "-u", "otto:battery staple", body=body)[0] == 403
        assert device.curl(f"{WELL_KNOWN}/lab/simpleenroll", "-u", "anna:correct horse", body=body)[0] == 403
        # Five wrong guesses close the name, as at its own login.
        for _ in range(5):
            assert device.curl(path, "-u", "anna:wrong", body=body)[0] == 401
        assert device.curl(path, "-u", "anna:correct horse", body=body)[0] == 401
        with device.server.api("") as anybody:
            right = {"password": "correct horse"}
            assert anybody.post("auth/people/login/anna", right).status == 403
    finally:
        api.ok("POST", "pki/config/est", CONFIG)


def test_renewal_is_of_oneself(device: Device, api: Api) -> None:
    path = f"{WELL_KNOWN}/simplereenroll"
    root = ("-u", f"x:{device.server.token}")
    first = device.enroll(f"{WELL_KNOWN}/simpleenroll", *root)
    second = device.enroll(path, *device.identity)
    assert first.subject == second.subject
    status, _, text = device.curl(path, *root, body=device.csr.read_bytes())
    assert (status, b"certificate that is renewed" in text) == (403, True)
    status, _, text = device.curl(path, *device.identity, body=device.request("other.example.test"))
    assert (status, b"a certificate renews itself" in text) == (400, True)
    # A revoked one renews nothing, nor does one that this mount never signed.
    device.request(NAME)
    api.ok("POST", "pki/revoke", {"certificate": (device.folder / "cert.pem").read_text()})
    assert device.curl(path, *device.identity, body=device.csr.read_bytes())[0] == 401
    stranger = (
        "req",
        "-x509",
        "-key",
        str(device.key),
        "-subj",
        f"/CN={NAME}",
        "-out",
        str(device.folder / "cert.pem"),
    )
    device._openssl(*stranger)
    assert device.curl(path, *device.identity, body=device.csr.read_bytes())[0] == 401


def test_a_key_that_the_server_makes(device: Device) -> None:
    """RFC 7030 4.4, read with the standard library's MIME parser."""
    path = f"{WELL_KNOWN}/serverkeygen"
    body = base64.b64encode(device.csr.read_bytes())
    status, head, text = device.curl(path, "-u", f"x:{device.server.token}", body=body)
    assert status == 200, text
    kind = next(line for line in head.splitlines() if line.lower().startswith("content-type:"))
    message = email.message_from_bytes(f"{kind}\r\n\r\n".encode() + text)
    pkcs8, certs = (part.get_payload(decode=True) for part in message.walk() if not part.is_multipart())
    assert isinstance(pkcs8, bytes)
    assert isinstance(certs, bytes)
    private = load_der_private_key(pkcs8, None)
    (certificate,) = pkcs7.load_der_pkcs7_certificates(certs)
    assert certificate.public_key() == private.public_key()
    own = x509.load_der_x509_csr(device.csr.read_bytes())
    assert certificate.public_key() != own.public_key()
    assert certificate.subject == own.subject
    assert device.curl(path, body=body)[0] == 401


def test_a_front_proxy_hands_the_certificate_on(device: Device) -> None:
    """RFC 9440's header, from the proxy's address and from no other."""
    path = f"{WELL_KNOWN}/simplereenroll"
    certificate = device.enroll(f"{WELL_KNOWN}/simpleenroll", "-u", f"x:{device.server.token}")
    text = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    header = ("-H", f"Client-Cert: :{text}:")
    assert device.curl(path, *header, body=device.csr.read_bytes())[0] == 401
    proxied = device.enroll(path, *header, "--interface", "127.0.0.2")
    assert proxied.subject == certificate.subject
    # What the proxy presents for itself is not the client's.
    assert (
        device.curl(path, *device.identity, "--interface", "127.0.0.2", body=device.csr.read_bytes())[0]
        == 401
    )


def test_public_documents(device: Device, api: Api) -> None:
    status, head, body = device.curl(f"{WELL_KNOWN}/cacerts")
    assert (status, "content-transfer-encoding: base64" in head.lower()) == (200, True)
    (root,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    assert (
        root.public_bytes(Encoding.PEM).decode().strip()
        == api.ok("GET", "pki/cert/ca")["certificate"].strip()
    )
    status, head, body = device.curl(f"{WELL_KNOWN}/csrattrs")
    assert (status, "application/csrattrs" in head) == (200, True)
    # SEQUENCE { SEQUENCE { ecPublicKey, SET { prime256v1 } } }
    assert base64.b64decode(body).hex() == "30173015" + "06072a8648ce3d0201" + "310a" + "06082a8648ce3d030107"
    assert device.curl(f"{WELL_KNOWN}/lab/csrattrs")[0] == 204
    for path in (
        f"{WELL_KNOWN}/nosuch/cacerts",
        f"{WELL_KNOWN}/serverkeygen/x/y",
        "/.well-known/other",
        f"{WELL_KNOWN}/../x",
    ):
        assert device.curl(path, "--path-as-is")[0] in {400, 404}, path


def test_what_is_refused(device: Device) -> None:
    root = ("-u", f"x:{device.server.token}")
    path = f"{WELL_KNOWN}/simpleenroll"
    assert device.curl(path, *root, body=b"not a request")[0] == 400
    assert device.curl(path, *root, body=b"")[0] == 400
    assert device.curl(path, *root, "-H", "Content-Type: application/json", "-d", "{}")[0] == 415
    assert (
        device.curl(path, *root, body=device.request("device.example.org"))[0] == 400
    )  # not the role's domain
    assert device.curl(path, "-H", "Authorization: Basic !!", body=b"x")[0] == 401


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"default_path_policy": "role:nosuch"}, "is no path policy"),
        ({"label_to_path_policy": {"a": "nonsense"}}, "is no path policy"),
        ({"label_to_path_policy": {"cacerts": "sign-verbatim"}}, "cannot be a label"),
        ({"label_to_path_policy": {"a/b": "sign-verbatim"}}, "invalid label"),
        ({"authenticators": ["nobody"]}, "authenticators are of"),
        ({"authenticators": ["userpass"]}, "accessor of its mount"),
        ({"default_path_policy": ""}, "default_mount needs"),
    ],
)
def test_settings_that_make_no_sense(api: Api, change: dict[str, object], complaint: str) -> None:
    answer = api.post("pki/config/est", change)
    assert answer.status == 400
    assert complaint in answer.errors[0]
    assert api.ok("GET", "pki/config/est")["default_path_policy"] == "role:device"


def test_one_mount_answers_a_label(api: Api) -> None:
    api.ok("POST", "sys/mounts/pki-2", {"type": "pki"})
    enabled = {"enabled": True}
    for change in (
        {"label_to_path_policy": {"factory": "sign-verbatim"}},
        {"default_mount": True, "default_path_policy": "sign-verbatim"},
    ):
        assert api.post("pki-2/config/est", {**enabled, **change}).status == 400
    api.ok("POST", "pki-2/config/est", {**enabled, "label_to_path_policy": {"second": "sign-verbatim"}})
    api.ok("DELETE", "sys/mounts/pki-2")
