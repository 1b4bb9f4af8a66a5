"""Authorities and certificates of tests, made in memory."""

from __future__ import annotations

import datetime as dt
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
CUSTOM = x509.ObjectIdentifier("2.1.1.1")
START = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


@dataclass
class Paper:
    """A certificate and its key; `chain` are its issuers as a client presents them."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> str:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def save(self, folder: Path, name: str) -> tuple[str, str]:
        """(file of the chain, file of the key), as clients take them."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        texts = [one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.chain)]
        certificate.write_bytes(b"".join(texts))
        key.touch(mode=0o600)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(certificate), str(key)


def _builder(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, serial: int | None
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def authority(name: str, parent: Paper | None = None) -> Paper:
    """A root, or an intermediate of one."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = parent or Paper(None, key)  # type: ignore[arg-type]  # signs itself
    issuer = parent.certificate.subject if parent else own
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(own, key, issuer, None)
        .not_valid_before(START)
        .not_valid_after(START + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
        )
    )
    certificate = builder.sign(signer.key, hashes.SHA256())
    chain = (parent.certificate, *parent.chain) if parent else ()
    return Paper(certificate, key, chain)


def leaf(
    issuer: Paper,
    name: str = "app",
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    sans: Sequence[x509.GeneralName] = (),
    units: Sequence[str] = (),
    usages: Sequence[x509.ObjectIdentifier] = (CLIENT,),
    more: Sequence[x509.ExtensionType] = (),
    custom: bytes = b"",
    serial: int | None = None,
    days: tuple[float, float] = (0, 10),
    names: Sequence[str] = (),
) -> Paper:
    """A certificate of a client; `custom` is the value of the extension 2.1.1.1."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
    parts += [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in (names or ([name] if name else []))]
    builder = (
        _builder(x509.Name(parts), key, issuer.certificate.subject, serial)
        .not_valid_before(START + dt.timedelta(days=days[0]))
        .not_valid_after(START + dt.timedelta(days=days[1]))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=not parts)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if custom:
        builder = builder.add_extension(x509.UnrecognizedExtension(CUSTOM, custom), critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    return Paper(builder.sign(issuer.key, hashes.SHA256()), key, (issuer.certificate, *issuer.chain))


def self_signed(name: str, *, ca: bool = False, serial: int | None = None) -> Paper:
    """As `openssl req -x509` makes one."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(own, key, own, serial)
        .not_valid_before(START)
        .not_valid_after(START + dt.timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return Paper(builder.sign(key, hashes.SHA256()), key)


def crl(issuer: Paper, *revoked: Paper, signer: Paper | None = None, seconds: float = 86_400) -> str:
    """A list of revoked certificates, PEM."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - dt.timedelta(minutes=1))
        .next_update(now + dt.timedelta(seconds=seconds))
    )
    for paper in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(paper.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
    return builder.sign((signer or issuer).key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


UTF8 = b"\x0c\x08A UTF8 S"


class Papers:
    """What the tests of logins present: two authorities, an intermediate, and certificates of all sorts."""

    def __init__(self) -> None:
        self.root, self.other = authority("Root"), authority("Other")
        self.middle = authority("Middle", self.root)
        self.app = leaf(self.middle, "app", sans=[x509.DNSName("app.example.test")], units=["eng", "ops"])
        self.mesh = leaf(self.root, "", sans=[x509.UniformResourceIdentifier("spiffe://a/b")])
        self.mail = leaf(self.root, "ann", sans=[x509.RFC822Name("ann@example.test")], custom=UTF8)
        self.stranger = leaf(self.other, "app", sans=[x509.DNSName("app.example.test")])
        self.expired = leaf(self.root, "app", days=(-20, -5))
        self.early = leaf(self.root, "app", days=(5, 10))
        self.server = leaf(self.root, "app", usages=[SERVER])
        self.plain = leaf(self.root, "plain", usages=[])
        self.own = self_signed("own")
        self.own_ca = self_signed("own-ca", ca=True)
        self.twin = self_signed("own", serial=self.own.certificate.serial_number)

    def all(self) -> dict[str, Paper]:
        """By name."""
        return {name: paper for name, paper in vars(self).items() if name not in {"root", "other", "middle"}}


def client_of(
    address: str, context: ssl.SSLContext, paper: Paper | None, folder: Path, token: str = ""
) -> httpx.Client:
    """A client that presents a certificate, or none."""
    if paper is not None:
        context.load_cert_chain(*paper.save(folder, f"client-{time.monotonic_ns()}"))
    headers = {"X-Vault-Token": token} if token else {}
    return httpx.Client(
        base_url=f"{address}/v1/", verify=context, trust_env=False, timeout=60, headers=headers
    )
