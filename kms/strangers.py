"""Certificates and requests that strangers send, read once in all their parts.

cryptography parses lazily, and raises more than it documents about what it then finds: KeyError for a TLS feature that
nobody registered, TypeError for a bit string in a name, an overflow for a number that is too large. Whoever reads such
bytes does it here, and hears of one kind of error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

CRASHES = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NotImplementedError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.AttributeNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What parsers raise over bytes that are not what they expect."""

T = TypeVar("T", x509.Certificate, x509.CertificateSigningRequest)


class Unreadable(ValueError):  # noqa: N818  (a judgement on what was sent, not a failure)
    """It is not DER, or something in it is not what it should be; the text is the parser's."""


def certificate(der: bytes) -> x509.Certificate:
    """A certificate of which every part can be read. Raises Unreadable."""

    def read() -> x509.Certificate:
        found = x509.load_der_x509_certificate(der)
        _touch(found)
        for moment in (found.not_valid_before_utc, found.not_valid_after_utc):
            moment.timestamp()
        return found

    return _read(read)


def request(der: bytes) -> x509.CertificateSigningRequest:
    """A PKCS #10 request of which every part can be read; its signature is not looked at. Raises Unreadable."""

    def read() -> x509.CertificateSigningRequest:
        found = x509.load_der_x509_csr(der)
        _touch(found)
        kinds = [attribute.oid for attribute in found.attributes]
        if len(set(kinds)) != len(
            kinds
        ):  # of two lists of extensions, one reader takes the first, another the last
            raise Unreadable("an attribute stands in it twice")
        return found

    return _read(read)


def _touch(found: x509.Certificate | x509.CertificateSigningRequest) -> None:
    for name in (found.subject, *([found.issuer] if isinstance(found, x509.Certificate) else ())):
        name.rfc4514_string()
    found.extensions, found.public_key()


def _read(read: Callable[[], T]) -> T:
    try:
        return read()
    except CRASHES as error:
        raise Unreadable(str(error) or type(error).__name__) from None
