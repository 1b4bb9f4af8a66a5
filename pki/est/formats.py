"""What EST sends: base64 of DER (RFC 8951 3), certificates in PKCS #7, CSR attributes."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from kms.errors import invalid
from kms.operation import Result
from pki.authority import pem
from pki.der import SEQUENCE, SET, integer, oid, tlv
from pki.model import Role
from pki.requests import MAX_CSR, parse_csr
from pki.schemes import CaPrivateKey

CERTIFICATES = "application/pkcs7-mime; smime-type=certs-only"
ATTRIBUTES = "application/csrattrs"
_BOUNDARY = b"est-server-key-generation"  # has '-', which base64 has not
_RSA, _EC, _ED25519 = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.3.101.112"
_CURVES = {256: "1.2.840.10045.3.1.7", 384: "1.3.132.0.34", 521: "1.3.132.0.35"}
# Clients of RFC 7030 ask for this header; RFC 8951 tells them not to mind it.
_ENCODED = (("Content-Transfer-Encoding", "base64"),)


def request(text: str) -> x509.CertificateSigningRequest:
    """A PKCS #10 request in base64, with whatever line breaks; PEM and DER are understood as well.

    Raises:
        KmsError(INVALID): not one.
    """
    if len(text) > MAX_CSR:
        raise invalid(f"the request has more than {MAX_CSR} characters")
    if text.lstrip().startswith("-----BEGIN"):
        return parse_csr(text)
    if text.startswith(("0\x81", "0\x82")):  # of less and of more than 255 octets
        return parse_csr(pem(text.encode("latin-1"), "CERTIFICATE REQUEST"))
    try:
        der = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise invalid("the body must be a PKCS #10 request in base64 (RFC 8951 3)") from None
    return parse_csr(pem(der, "CERTIFICATE REQUEST"))


def certificates(ders: Iterable[bytes], subject: Result | None = None) -> Result:
    """A certs-only answer; the facts for the record are those of `subject`."""
    loaded = [x509.load_der_x509_certificate(der) for der in ders]
    return _document(pkcs7.serialize_certificates(loaded, Encoding.DER), CERTIFICATES, subject)


def with_key(enrolled: Result, key: CaPrivateKey) -> Result:
    """A private key and its certificate, as RFC 7030 4.4.2 puts them together."""
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    document = enrolled.raw[0] if enrolled.raw is not None else b""
    parts = ((b"application/pkcs8", base64.b64encode(pkcs8)), (CERTIFICATES.encode("ascii"), document))
    lines = [
        b"--%b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n"
        % (_BOUNDARY, kind, body)
        for kind, body in parts
    ]
    kind = f"multipart/mixed; boundary={_BOUNDARY.decode('ascii')}"
    return Result(raw=(b"".join(lines) + b"--%b--\r\n" % _BOUNDARY, kind), subject=enrolled.subject)


def attributes(role: Role | None) -> Result:
    """What a request should look like (RFC 7030 4.5): the key that the role wants; 204 when any will do."""
    wanted = _key(role)
    if not wanted:
        return Result(status=204)
    return _document(tlv(SEQUENCE, wanted), ATTRIBUTES, None)


def _key(role: Role | None) -> bytes:
    if role is None or role.key_type not in {"rsa", "ec", "ed25519"}:
        return b""
    if role.key_type == "ed25519":
        return oid(_ED25519)
    if role.key_type == "rsa":
        return tlv(SEQUENCE, oid(_RSA) + tlv(SET, integer(role.key_bits or 2048)))
    curve = _CURVES.get(role.key_bits or 256)
    return tlv(SEQUENCE, oid(_EC) + tlv(SET, oid(curve))) if curve else b""


def _document(der: bytes, kind: str, subject: Result | None) -> Result:
    body = base64.b64encode(der)  # one line: RFC 4648 4, and some clients skip no line breaks
    facts = subject.subject if subject is not None else {}
    return Result(raw=(body, kind), headers=_ENCODED, subject=facts)
