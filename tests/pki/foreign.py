"""CAs from elsewhere, made with cryptography's builder: what a client imports."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.pki.bench import START

BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def key_usage(*bits: str) -> x509.KeyUsage:
    """Those bits and no others."""
    return x509.KeyUsage(**{**dict.fromkeys(BITS, False), **dict.fromkeys(bits, True)})


def root(
    *extensions: x509.ExtensionType,
    usage: x509.KeyUsage | None = None,
    now: float = START,
) -> tuple[str, str]:
    """Key and certificate of a self-signed CA, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Foreign Root"),
        ]
    )
    day, begin = dt.timedelta(1), dt.datetime.fromtimestamp(now, dt.UTC)
    ski = x509.SubjectKeyIdentifier.from_public_key(public)
    made = (
        x509.CertificateBuilder(
            name, name, public, x509.random_serial_number(), begin - day, begin + 3650 * day
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage or key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(ski, critical=False)
    )
    for extension in extensions:
        made = made.add_extension(extension, critical=True)
    signed = made.sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private.decode(), signed.public_bytes(Encoding.PEM).decode()
