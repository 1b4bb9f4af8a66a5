"""What two answers of a CA have in common: certificates by what they say, not by their bytes."""

from __future__ import annotations

import base64
import contextlib
import re
import warnings
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SERIAL = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){15,19}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_MOUNT = re.compile(r"pki-[0-9a-f]{6}")
_FRAME = re.compile(r"^(?:\d+ errors? occurred:\n\t\* )(.*?)\n\n$", re.DOTALL)
_SECONDS = frozenset({"expiration", "not_before", "revocation_time"})
# Members that are ours alone, and the peer's that name its own process.
_OWN = frozenset({"protection", "internal_backend_uuid", "no_rev_avail", "profile", "renewable", "shards"})
_ROUGH = 100  # seconds: the peer's TTL of N seconds ends one second later, and a request takes time


def pki_shape(document: Any) -> Any:
    """A document without what cannot be the same on two servers."""
    if not isinstance(document, dict):
        return document
    found = {name: value for name, value in document.items() if name != "request_id"}
    if "errors" in found:
        return {"errors": [_text(_FRAME.sub(r"\1", text)) for text in found["errors"]]}
    return _mask("", found)


def _mask(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return _sorted(value)
    if isinstance(value, list):
        masked = [_mask(name, each) for each in value]
        return sorted(masked, key=str) if name == "keys" else masked
    if name in _SECONDS and isinstance(value, int) and value:
        return "seconds"
    if name == "private_key" and isinstance(value, str) and not value.startswith("-"):
        return "<der>"
    return _text(value) if isinstance(value, str) else value


def _sorted(value: dict[str, Any]) -> Any:
    """By what it holds where the keys are ids, which differ from server to server."""
    masked = [(_text(key), _mask(key, each)) for key, each in value.items() if key not in _OWN]
    return dict(masked) if len({key for key, _ in masked}) == len(masked) else sorted(map(str, masked))


def _text(text: str) -> str:
    if text.startswith("MI") and len(text) > 200 and "\n" not in text:
        text = _der(text)
    text = _PEM.sub(lambda match: _pem(match[1], match[0]), text)
    for pattern, word in ((_UUID, "<uuid>"), (_SERIAL, "<serial>"), (_TIME, "<time>"), (_MOUNT, "pki")):
        text = pattern.sub(word, text)
    return text


def _der(text: str) -> str:
    data = base64.b64decode(text)
    for load in (x509.load_der_x509_certificate, x509.load_der_x509_csr):
        with contextlib.suppress(ValueError):
            return f"<der {said(load(data))}>"
    return "<der>"


def _pem(label: str, text: str) -> str:
    if label == "CERTIFICATE":
        return f"<{said(x509.load_pem_x509_certificate(text.encode()))}>"
    if label == "CERTIFICATE REQUEST":
        return f"<{said(x509.load_pem_x509_csr(text.encode()))}>"
    if label == "X509 CRL":
        crl = x509.load_pem_x509_crl(text.encode())
        life = (crl.next_update_utc - crl.last_update_utc).total_seconds() if crl.next_update_utc else 0
        return f"<CRL of {crl.issuer.rfc4514_string()}, {life:.0f} s, {_extensions(crl.extensions)}>"
    return f"<{label}>"


def said(document: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Subject, issuer, key, lifetime and extensions of a certificate or a request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer signs countries of any length
        return _said(document)


def _said(document: x509.Certificate | x509.CertificateSigningRequest) -> str:
    parts = [f"subject {document.subject.rfc4514_string()}", f"key {_key(document.public_key())}"]
    if isinstance(document, x509.Certificate):
        life = (document.not_valid_after_utc - document.not_valid_before_utc).total_seconds()
        parts += [f"issuer {document.issuer.rfc4514_string()}", f"life {round(life / _ROUGH)}"]
    parts.append(_extensions(document.extensions))
    return "; ".join(parts)


def _key(key: Any) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def _extensions(extensions: x509.Extensions) -> str:
    return ", ".join(sorted(filter(None, map(_extension, extensions))))


def _extension(extension: x509.Extension[Any]) -> str:
    value = extension.value
    if isinstance(value, x509.BasicConstraints) and not value.ca:
        return ""  # the peer leaves it out of leaves
    return ("!" if extension.critical else "") + _named(value)


def _named(value: Any) -> str:
    if isinstance(value, x509.BasicConstraints):
        return f"CA {value.path_length}"
    if isinstance(value, x509.KeyUsage):
        # Of leaves, those that the key type cannot serve are left out by us.
        return f"KU{' CA' if value.key_cert_sign else ''}"
    if isinstance(value, x509.ExtendedKeyUsage):
        return f"EKU {sorted(oid.dotted_string for oid in value)}"
    if isinstance(value, x509.SubjectAlternativeName):
        return f"SAN {sorted(str(name.value) for name in value)}"
    return _listed(value)


def _listed(value: Any) -> str:
    if isinstance(value, x509.NameConstraints):
        return f"NC {sorted(str(tree.value) for tree in value.permitted_subtrees or ())}"
    if isinstance(
        value, x509.AuthorityInformationAccess | x509.CRLDistributionPoints | x509.CertificatePolicies
    ):
        return f"{type(value).__name__} {len(value)}"
    return str(value.oid.dotted_string)
