"""Reading certificates that clients bring, as PEM."""

from __future__ import annotations

import base64
import binascii
import re

from cryptography import x509

from kms import strangers
from kms.errors import invalid

MAX_PEM = 64 * 1024  # characters

_PEM = re.compile(
    r"-----BEGIN (?P<label>(?:X509 )?CERTIFICATE)-----\s+(?P<body>[A-Za-z0-9+/=\s]+?)-----END (?P=label)-----"
)


def parse_certificate(text: str) -> x509.Certificate:
    """One certificate in PEM. Raises KmsError(INVALID)."""
    found = parse_certificates(text)
    if len(found) != 1:
        raise invalid(f"expected one PEM certificate, got {len(found)}")
    return found[0]


def parse_certificates(text: str) -> list[x509.Certificate]:
    """All certificates of a PEM bundle. Raises KmsError(INVALID) for none or a broken one."""
    if len(text) > MAX_PEM:
        raise invalid(f"the bundle has more than {MAX_PEM} characters")
    found = []
    for match in _PEM.finditer(text):
        try:
            der = base64.b64decode("".join(match["body"].split()), validate=True)
            found.append(strangers.certificate(der))
        except (ValueError, binascii.Error) as error:
            raise invalid(f"the certificate could not be parsed: {error}") from None
    if not found:
        raise invalid("no PEM certificate found in the data")
    return found
