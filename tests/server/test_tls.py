"""TLS at the edge (T-59c): versions, suites, tickets, and new certificates without a dropped request."""

from __future__ import annotations

import datetime as dt
import os
import signal
import socket
import ssl
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.harness import processes
from tests.server.conftest import Starter
from tests.server.running import Running


def _certificate(folder: Path, name: str) -> bytes:
    """A self-signed certificate in DER, written to the folder with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=20_000))
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.key").touch(mode=0o600)
    (folder / "tls.key").write_bytes(private)
    return certificate.public_bytes(serialization.Encoding.DER)


def _tls(starter: Starter) -> tuple[Running, bytes]:
    running = starter()
    der = _certificate(running.folder, "first")
    with running.config.open("a") as file:
        file.write(f'[tls]\ncertificate = "{running.folder}/tls.pem"\nkey = "{running.folder}/tls.key"\n')
    return running, der


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _shake(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return context.wrap_socket(plain, session=session)
    except (OSError, ssl.SSLError):
        plain.close()
        raise


def _peer(port: int) -> bytes:
    with _shake(port, _context()) as connection:
        connection.sendall(b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert b"Strict-Transport-Security" in answer
        return connection.getpeercert(binary_form=True) or b""


def test_tls(starter: Starter) -> None:
    running, first = _tls(starter)
    plain = processes.free_port()
    with running.config.open("a") as file:
        file.write(f'[documents]\nlisten = "127.0.0.1:{plain}"\n')
    running.start()
    assert f"ready: https://127.0.0.1:{running.port}".encode() in running.output.read_bytes()
    assert _peer(running.port) == first
    _versions_and_suites(running.port)
    _no_resumption(running.port)
    assert running.talk(b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n", quiet=3).responses == []
    _plain_without_secrets(plain)
    _new_certificate(running, first)
    _plain_without_secrets(plain)
    assert running.stop() == 0


def _plain_without_secrets(port: int) -> None:
    """The listener for documents speaks no TLS, and serves nothing else."""
    for head in (b"GET /v1/sys/health", b"POST /v1/sys/seal", b"GET /"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 404"), answer
        assert b"Strict-Transport-Security" not in answer


def _versions_and_suites(port: int) -> None:
    old = _context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that they are deprecated is the point
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        _shake(port, old)
    weak = _context()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        _shake(port, weak)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = _context()
        context.minimum_version = context.maximum_version = version
        with _shake(port, context) as connection:
            cipher = connection.cipher()
            assert cipher is not None
            assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


def _no_resumption(port: int) -> None:
    """No session goes on: a ticket would skip the look at the client's certificate."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = _context()
        context.minimum_version = context.maximum_version = version
        with _shake(port, context) as connection:
            # Tickets of 1.3 come after the handshake; with an answer behind them they have been read.
            connection.sendall(b"GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200"), "an unsealed server"
            session = connection.session
            assert session is None or not session.has_ticket
        with _shake(port, context, session) as connection:
            assert not connection.session_reused


def _new_certificate(running: Running, first: bytes) -> None:
    second = _certificate(running.folder, "second")
    os.kill(running.pid, signal.SIGHUP)
    seen = set()

    def changed() -> bool:
        seen.add(_peer(running.port))  # every handshake works, whichever worker takes it
        return len(running.workers()) == 2 and [_peer(running.port) for _ in range(8)] == [second] * 8

    processes.wait_for(changed, 20, "the new certificate")
    assert seen <= {first, second}


def test_a_key_of_another_certificate_is_a_sentence(starter: Starter) -> None:
    running, _ = _tls(starter)
    keep = (running.folder / "tls.pem").read_bytes()
    _certificate(running.folder, "other")
    (running.folder / "tls.pem").write_bytes(keep)
    assert running.launch().wait(30) == 1
    assert "do they match?" in running.errors.read_text()
