"""Every certificate, CRL and OCSP answer that Keystead gave to the tests of this process, kept until the end.

The client of the HTTP API (tests.harness.api) and the in-process CA (tests.pki.bench) hand in what they got;
tests.harness.harvest asks servers for the rest, and tests.harness.verdict shows all of it to others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

CRL = "application/pkix-crl"
OCSP = "application/ocsp-response"
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_MADE = ("certificate", "issuing_ca", "ca_chain")


class Gathered:
    """Documents in DER, each with the time (Unix seconds) at which it was seen first."""

    def __init__(self) -> None:
        self.certificates: dict[bytes, int] = {}
        self.crls: dict[bytes, int] = {}
        self.answers: dict[bytes, int] = {}

    def data(self, data: Mapping[str, Any], now: float) -> None:
        """The `data` of an answer: what issues or signs says `issuing_ca` beside the certificate."""
        if "issuing_ca" not in data or "certificate" not in data:
            return
        for name in _MADE:
            value = data.get(name) or ()
            for text in [value] if isinstance(value, str) else value:
                self.pem(text.encode(), now)

    def pem(self, text: bytes, now: float) -> None:
        """Certificates one after the other."""
        for one in x509.load_pem_x509_certificates(text) if _BEGIN in text else ():
            self.certificates.setdefault(one.public_bytes(Encoding.DER), int(now))

    def document(self, content: bytes, kind: str, now: float) -> None:
        """An answer that is a document, by its content type."""
        if not content:  # of a HEAD
            return
        if kind == CRL:
            self.crls.setdefault(content, int(now))
        elif kind == OCSP:
            self.answers.setdefault(content, int(now))

    def reply(self, content: bytes, kind: str, now: float) -> None:
        """An answer of the HTTP API, whatever it is."""
        if kind != "application/json":
            self.document(content, kind, now)
        elif _BEGIN[:-5] in content and b'"issuing_ca"' in content:
            found = json.loads(content).get("data")
            if isinstance(found, dict):
                self.data(found, now)

    def add(self, certificates: Iterable[bytes], now: float) -> None:
        """Certificates in DER."""
        for der in certificates:
            self.certificates.setdefault(der, int(now))


GATHERED = Gathered()
