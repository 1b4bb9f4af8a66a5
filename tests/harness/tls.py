"""A server with TLS that asks its clients for certificates, as an operator configures one."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from contextlib import suppress
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.harness.api import Api
from tests.harness.dev import ConfiguredServer

WORKERS = 2


def self_signed(key_file: Path, certificate_file: Path) -> None:
    """A key and a certificate for localhost that is its own root, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=20_000))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))


class TlsServer(ConfiguredServer):
    """`keystead serve` under a certificate that `trust` holds.

    Args:
        folder: private.
        proxy: networks of trusted front proxies, if any.
    """

    def __init__(self, folder: Path, *, proxy: str = "") -> None:
        super().__init__(folder, workers=WORKERS)
        self.address = f"https://127.0.0.1:{self.port}"
        self.trust = folder / "server.pem"
        self._key = folder / "server.key"
        self._proxy = proxy
        self_signed(self._key, self.trust)

    def setup(self, also: str = "") -> None:
        """Make the configuration, with more sections if there are any, and start."""
        more = (
            f'\n[tls]\ncertificate = "{self.trust}"\nkey = "{self._key}"\nclient_certificates = "request"\n'
        )
        if self._proxy:
            more += f'[proxy]\ntrusted = ["{self._proxy}"]\n'
        self.prepare(lambda text: text + more + also)
        self.start()

    def context(self) -> ssl.SSLContext:
        """What a client trusts."""
        return ssl.create_default_context(cafile=str(self.trust))

    def answers(self) -> bool:
        """Whether it serves; initialises it at the first time."""
        with (
            suppress(httpx.HTTPError),
            httpx.Client(trust_env=False, timeout=20, verify=self.context()) as client,
        ):
            status = client.get(f"{self.address}/v1/sys/health").status_code
            if status == 501:
                body = {"recovery_shares": 1, "recovery_threshold": 1}
                self.token = client.post(f"{self.address}/v1/sys/init", json=body).json()["root_token"]
                return False
            return status == 200
        return False

    def api(self, token: str | None = None) -> Api:
        """A client; the root token unless another is given."""
        return Api(self.address, self.token if token is None else token, verify=self.context())
