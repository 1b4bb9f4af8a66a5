"""Client certificates: any is taken in the handshake, none too, and a proxy's header only from where it may."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import ssl
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kms.config import ProxyConfig, parse
from kms.errors import KmsError
from kms.http.chains import MAX_HEADER_BYTES, ClientChains
from kms.server.tls import presented_chain, requesting_context

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


class Pair:
    """A certificate that no authority knows, and its key, in one file."""

    def __init__(self, folder: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=20_000))
            .sign(key, hashes.SHA256())
        )
        self.der, self.pem = self.certificate.public_bytes(DER), self.certificate.public_bytes(PEM)
        self.file = folder / f"{name}.pem"
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.file.write_bytes(private + self.pem)


def _server_side(context: ssl.SSLContext, listener: socket.socket, seen: list[tuple[bytes, ...]]) -> None:
    connection, _ = listener.accept()
    with connection:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
        seen.append(presented_chain(tls))
        connection.sendall(outgoing.read())


def _handshake(server: Pair, client: list[Pair], version: ssl.TLSVersion) -> tuple[bytes, ...]:
    def default() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server.file)
        return context

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if client:
        chain = client[0].file.with_suffix(".chain")
        chain.write_bytes(client[0].file.read_bytes() + b"".join(pair.pem for pair in client[1:]))
        context.load_cert_chain(chain)
    seen: list[tuple[bytes, ...]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        side = threading.Thread(target=_server_side, args=(requesting_context(None, default), listener, seen))
        side.start()
        with (
            socket.create_connection(listener.getsockname(), timeout=30) as plain,
            context.wrap_socket(plain) as tls,
        ):
            assert tls.version() == version.name.replace("_", ".")
            side.join(30)
    return seen[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_any_certificate_is_taken_and_none_too(tmp_path: Path, version: ssl.TLSVersion) -> None:
    server, client, other = (Pair(tmp_path, name) for name in ("server", "client", "other"))
    assert _handshake(server, [client, other], version) == (client.der, other.der)
    assert _handshake(server, [client], version) == (client.der,)
    assert _handshake(server, [], version) == ()


def test_a_proxys_header_counts_from_its_networks_only(tmp_path: Path) -> None:
    one, two = Pair(tmp_path, "one"), Pair(tmp_path, "two")
    chains = ClientChains(ProxyConfig(trusted=("10.1.0.0/16", "fd00::/8"), client_certificate_header="X-C"))
    spellings = (
        b":" + base64.b64encode(one.der) + b":",
        base64.b64encode(one.der),
        quote(one.pem.decode()).encode(),
    )
    for text in spellings:
        headers = [(b"host", b"x"), (b"x-c", text)]
        assert chains.pick("10.1.2.3", headers, ()) == (one.der,)
        assert chains.pick("fd00::1", headers, (two.der,)) == (
            one.der,
        )  # the proxy's own is not the client's
        assert chains.pick("10.2.2.3", headers, ()) == ()  # anybody can write a header
        assert chains.pick("10.2.2.3", headers, (two.der,)) == (two.der,)
        assert chains.pick("local", headers, ()) == ()
        assert ClientChains().pick("10.1.2.3", headers, ()) == ()
    assert chains.pick("10.1.2.3", [(b"host", b"x")], (two.der,)) == ()  # the client had none
    twice = [(b"x-c", spellings[0]), (b"x-c", spellings[1])]
    for headers in (twice, [(b"x-c", b":!:")], [(b"x-c", b"A" * (MAX_HEADER_BYTES + 4))]):
        with pytest.raises(KmsError, match="client certificate's header"):
            chains.pick("10.1.2.3", headers, ())


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("[proxy]\ntrusted = []", "trusted is empty"),
        ('[proxy]\ntrusted = ["0.0.0.0/0"]', "believe everybody"),
        ('[proxy]\ntrusted = ["10.0.0.1/8"]', "not a network"),
        ('[proxy]\ntrusted = ["10.0.0.0/8"]\nclient_certificate_header = "a b"', "client_certificate_header"),
        ('[tls]\ncertificate = "/a"\nkey = "/b"\nclient_certificates = "require"', "client_certificates"),
    ],
)
def test_what_would_trust_too_much_is_refused(section: str, complaint: str) -> None:
    text = (
        'recovery = "none"\n[data]\nstorage = "/s"\naudit = "/a"\n'
        f'[hsm]\nmodule = "/m"\ntoken_label = "t"\npin_file = "/p"\n{section}\n'
    )
    with pytest.raises(KmsError, match=complaint):
        parse(text.encode(), "test.toml")
