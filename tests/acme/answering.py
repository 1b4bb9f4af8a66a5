"""The client's side of a challenge: servers on the ports of validation, which answer as a test wants, also wrongly."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

WELL_KNOWN = "/.well-known/acme-challenge/"
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
Answerer = Callable[[str], tuple[int, dict[str, str], bytes]]


@contextmanager
def http(port: int, answer: Answerer, address: str = "127.0.0.1") -> Iterator[list[str]]:
    """An HTTP server; yields the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    server = Server((address, port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shows(texts: dict[str, str]) -> Answerer:
    """Key authorizations by token."""

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        text = texts.get(path.removeprefix(WELL_KNOWN))
        return (404, {}, b"no") if text is None else (200, {}, text.encode())

    return answer


def certificate(
    folder: Path,
    name: str,
    key_authorization: str,
    *,
    critical: bool = True,
    extension: bool = True,
    more: tuple[str, ...] = (),
) -> Path:
    """The certificate of tls-alpn-01 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "challenge")])
    now = datetime.now(UTC)  # the certificate is judged by nobody's clock
    general: list[x509.GeneralName] = []
    for one in (name, *more):
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(one)))
        except ValueError:
            general.append(x509.DNSName(one))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
    )
    if extension:
        value = b"\x04\x20" + hashlib.sha256(key_authorization.encode()).digest()
        builder = builder.add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, value), critical)
    made = builder.sign(key, hashes.SHA256())
    file = folder / f"{x509.random_serial_number():x}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    return file


@contextmanager
def tls(
    port: int, file: Path, protocols: tuple[str, ...] = ("acme-tls/1",), address: str = "127.0.0.1"
) -> Iterator[list[str | None]]:
    """A TLS server with that certificate; yields the server names that were asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    listener = socket.create_server(
        (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
    )

    def serve() -> None:
        while True:
            try:
                opened, _ = listener.accept()
            except OSError:
                return
            opened.settimeout(5)
            with contextlib.suppress(OSError), context.wrap_socket(opened, server_side=True) as stream:
                stream.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
