"""The few DER encodings that a leaf certificate needs (X.690 clauses 8 to 11; RFC 5280 4.1).

Writes what cryptography's builder would write, byte for byte, from values that were checked before; it
judges none of them. Reads only as much as finding the parts of a certificate needs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from kms.errors import integrity

INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER = 0x02, 0x03, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, UTC_TIME, GENERALIZED_TIME = 0x0C, 0x13, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
# GeneralName (RFC 5280 4.2.1.6): implicit tags of its choices.
RFC822_NAME, DNS_NAME, URI, IP_ADDRESS = 0x81, 0x82, 0x86, 0x87
EXTENSIONS = 0xA3  # the explicit [3] of TBSCertificate

TRUE = b"\x01\x01\xff"


def tlv(tag: int, value: bytes) -> bytes:
    """One element of definite length."""
    length = len(value)
    if length < 0x80:
        return bytes((tag, length)) + value
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + value


def integer(value: int) -> bytes:
    """An INTEGER that is not negative."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER that cryptography has accepted."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return tlv(OBJECT_IDENTIFIER, bytes(content))


@lru_cache(maxsize=256)
def time(seconds: int) -> bytes:
    """A Time: UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 4.1.2.5)."""
    # Kept, because all certificates of one second and one lifetime have the same two.
    moment = datetime.fromtimestamp(seconds, UTC)
    text = f"{moment.year:04}{moment:%m%d%H%M%SZ}".encode("ascii")
    if 1950 <= moment.year < 2050:
        return tlv(UTC_TIME, text[2:])
    return tlv(GENERALIZED_TIME, text)


def extension(identifier: bytes, value: bytes, *, critical: bool = False) -> bytes:
    """One Extension; `identifier` is the whole OBJECT IDENTIFIER, `value` the DER inside."""
    return tlv(SEQUENCE, identifier + (TRUE if critical else b"") + tlv(OCTET_STRING, value))


def attribute(identifier: bytes, value: str, string_tag: int = UTF8_STRING) -> bytes:
    """One RelativeDistinguishedName of one attribute."""
    return tlv(SET, tlv(SEQUENCE, identifier + tlv(string_tag, value.encode())))


def elements(data: bytes, most: int = 0) -> list[bytes]:
    """The elements that stand one after another in `data`, each with its tag and length; the first `most` if given.

    Raises:
        KmsError(INTEGRITY): it is not a row of elements with low tag numbers and definite lengths.
    """
    found: list[bytes] = []
    at = 0
    while at < len(data) and not len(found) == most > 0:
        _, end = _content(data, at)
        if end > len(data):
            raise integrity("an element of a certificate ends after its container")
        found.append(data[at:end])
        at = end
    return found


def element(data: bytes, number: int) -> bytes:
    """One of the elements that stand one after another in `data`, counted from 0.

    Raises:
        KmsError(INTEGRITY): there are fewer, or one before it is not what `elements` reads.
    """
    at = 0
    for _ in range(number):
        _, at = _content(data, at)
    _, end = _content(data, at)
    if end > len(data):
        raise integrity("an element of a certificate ends after its container")
    return data[at:end]


def content(element: bytes) -> bytes:
    """What stands inside one element. Raises KmsError(INTEGRITY) when it is not exactly one."""
    start, end = _content(element, 0)
    if end != len(element):
        raise integrity("an element of a certificate has another length than it says")
    return element[start:]


def _content(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends."""
    if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
        raise integrity("a part of a certificate is not DER")
    length, start = data[at + 1], at + 2
    if length >= 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or start + octets > len(data):
            raise integrity("a part of a certificate is not DER")
        length, start = int.from_bytes(data[start : start + octets], "big"), start + octets
    return start, start + length
