"""An issuer of signed tokens, as a CI system is one: HTTPS on loopback, discovery document and JWKS."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import secrets
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm


class Issuer:
    """Serves until `stop`; see `loopback_certificate` for names. `keys` by kid may be changed while it runs."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.asked: list[str] = []
        self.redirect = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca = loopback_certificate(folder, *names)
        context.load_cert_chain(folder / "issuer.pem", folder / "issuer.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def add(self, kid: str) -> None:
        """A new key."""
        self.keys[kid] = rsa.generate_private_key(65537, 2048)

    def sign(self, kid: str, claims: dict[str, Any], **headers: Any) -> str:
        """A token of five minutes, unless the claims say otherwise."""
        now = int(time.time())
        body = {"iss": self.url, "iat": now, "exp": now + 300, **claims}
        return jwt.encode(body, self.keys[kid], "RS256", {"kid": kid, **headers})

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517)."""
        shown = []
        for kid, key in self.keys.items():
            entry = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
            shown.append({**entry, "kid": kid, "use": "sig", "alg": "RS256"})
        return {"keys": shown}

    def stop(self) -> None:
        """No more answers."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _answer(self, path: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        return (200, self.jwks()) if path == "/jwks" else (404, {})

    def _handler(issuer) -> type[BaseHTTPRequestHandler]:  # noqa: N805  (its instance is another)
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, document = issuer._answer(self.path)
                body = json.dumps(document).encode()
                self.send_response(302 if issuer.redirect else status)
                if issuer.redirect:
                    self.send_header("Location", issuer.redirect)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                return

        return Handler


def loopback_certificate(folder: Path, *names: str, ended: bool = False) -> str:
    """issuer.pem and issuer.key in the folder: a server on 127.0.0.1 that is its own authority; the PEM.

    With names the certificate is for those, and not for 127.0.0.1. `ended`: it was good until a minute ago.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: of two authorities of one name OpenSSL tries one.
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"issuer {secrets.token_hex(4)}")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    subjects: list[x509.GeneralName] = [x509.DNSName(each) for each in names] or [address]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + (dt.timedelta(minutes=-1) if ended else dt.timedelta(days=1)))
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "issuer.pem").write_bytes(pem)
    (folder / "issuer.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return pem.decode()
