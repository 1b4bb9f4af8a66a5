"""OCSP in DER (RFC 6960 4.1, 4.2): reading what anybody may send, strictly and bounded, and writing answers.

cryptography reads and writes one certificate a message; the protocol allows several. Tests compare both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from kms.errors import KmsError
from pki import der
from pki.crlder import signed

MAX_REQUEST_BYTES = 16 * 1024
MAX_CERTIFICATES = 32
MAX_NONCE_BYTES = 128  # RFC 9654 2.1
MAX_SERIAL_BYTES = 20

_ENUMERATED = 0x0A
_NULL = b"\x05\x00"
_HASHES = {
    der.oid("1.3.14.3.2.26"): "sha1",
    der.oid("2.16.840.1.101.3.4.2.1"): "sha256",
}
_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
_BASIC = der.oid("1.3.6.1.5.5.7.48.1.1")
_VERSION_1 = der.tlv(0xA0, der.integer(0))


class Status(IntEnum):
    """OCSPResponseStatus (RFC 6960 4.2.1)."""

    SUCCESSFUL = 0
    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6


class MalformedRequestError(ValueError):
    """Not an OCSPRequest, or one outside our bounds."""


@dataclass(frozen=True, slots=True)
class CertId:
    """One certificate that is asked about; `der` is repeated in the answer.

    Args:
        hash_name: "" for a digest that is not served here.
        serial: 0 for one that no certificate of ours can have.
    """

    der: bytes
    hash_name: str
    name_hash: bytes
    key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class Asked:
    """An OCSPRequest. `nonce` is empty when there is none."""

    certificates: tuple[CertId, ...]
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Single:
    """What is said about one certificate: `revoked_at` with a reason code (0: none), or known and good, or unknown."""

    certificate: CertId
    known: bool
    revoked_at: int = 0
    reason: int = 0


def parse(data: bytes) -> Asked:
    """Read a request. Its signature, if it has one, is not looked at: everybody may ask.

    Raises:
        MalformedRequestError: what it is not.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise MalformedRequestError("too large")
    try:
        return _request(data)
    except (KmsError, IndexError):
        raise MalformedRequestError("not DER") from None


def _request(data: bytes) -> Asked:
    parts = _inside(data, der.SEQUENCE)
    _demand(len(parts) == 1 or (len(parts) == 2 and parts[1][0] == 0xA0))
    fields = _inside(parts[0], der.SEQUENCE)
    if fields[0][0] == 0xA0:
        _demand(fields.pop(0) == _VERSION_1)
    if fields[0][0] == 0xA1:
        fields.pop(0)  # requestorName
    requests = _inside(fields.pop(0), der.SEQUENCE)
    _demand(1 <= len(requests) <= MAX_CERTIFICATES)
    nonce = _nonce(fields.pop(0)) if fields else b""
    _demand(not fields)
    return Asked(tuple(_certificate(request) for request in requests), nonce)


def _certificate(request: bytes) -> CertId:
    parts = _inside(request, der.SEQUENCE)
    _demand(len(parts) == 1 or (len(parts) == 2 and parts[1][0] == 0xA0))
    identifier = _inside(parts[0], der.SEQUENCE)
    _demand(len(identifier) == len(("algorithm", "name", "key", "serial")))
    algorithm, name, key, serial = identifier
    named = _inside(algorithm, der.SEQUENCE)
    _demand(named[1:] in ([], [_NULL]))
    octets = _value(serial, der.INTEGER)
    _demand(bool(octets))
    number = int.from_bytes(octets, "big", signed=True)
    return CertId(
        der=parts[0],
        hash_name=_HASHES.get(named[0], ""),
        name_hash=_value(name, der.OCTET_STRING),
        key_hash=_value(key, der.OCTET_STRING),
        serial=number if number > 0 and len(octets) <= MAX_SERIAL_BYTES else 0,
    )


def _nonce(explicit: bytes) -> bytes:
    """The nonce among the extensions; others are not critical to anything here, or refused."""
    inside = _inside(explicit, 0xA2)
    _demand(len(inside) == 1)
    nonce, seen = b"", set()
    for extension in _inside(inside[0], der.SEQUENCE):
        parts = _inside(extension, der.SEQUENCE)
        critical = parts[1] == der.TRUE
        _demand(len(parts) == (3 if critical else 2) and parts[0] not in seen)
        seen.add(parts[0])
        if parts[0] == _NONCE:
            nonce = _value(_value(parts[-1], der.OCTET_STRING), der.OCTET_STRING)
            _demand(1 <= len(nonce) <= MAX_NONCE_BYTES)
        else:
            _demand(not critical)
    return nonce


def _inside(element: bytes, tag: int) -> list[bytes]:
    return der.elements(_value(element, tag))


def _value(element: bytes, tag: int) -> bytes:
    _demand(element[0] == tag)
    content = der.content(element)
    _demand(der.tlv(tag, content) == element)  # lengths in their shortest form: what is repeated must be DER
    return content


def _demand(holds: bool) -> None:
    if not holds:
        raise MalformedRequestError("not an OCSP request")


def response_data(
    key_hash: bytes, produced_at: int, until: int, said: Sequence[Single], nonce: bytes
) -> bytes:
    """ResponseData by the responder with this key hash (SHA-1); `until` is nextUpdate, 0 for none."""
    singles = b"".join(_single(single, produced_at, until) for single in said)
    parts = [
        der.tlv(0xA2, der.tlv(der.OCTET_STRING, key_hash)),
        _time(produced_at),
        der.tlv(der.SEQUENCE, singles),
    ]
    if nonce:
        extension = der.extension(_NONCE, der.tlv(der.OCTET_STRING, nonce))
        parts.append(der.tlv(0xA1, der.tlv(der.SEQUENCE, extension)))
    return der.tlv(der.SEQUENCE, b"".join(parts))


def _single(single: Single, at: int, until: int) -> bytes:
    if single.revoked_at:
        reason = der.tlv(0xA0, der.tlv(_ENUMERATED, bytes((single.reason,)))) if single.reason else b""
        status = der.tlv(0xA1, _time(single.revoked_at) + reason)
    else:
        status = der.tlv(0x80 if single.known else 0x82, b"")
    after = der.tlv(0xA0, _time(until)) if until else b""
    return der.tlv(der.SEQUENCE, single.certificate.der + status + _time(at) + after)


def _time(seconds: int) -> bytes:
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%SZ")
    return der.tlv(der.GENERALIZED_TIME, text.encode("ascii"))


def answered(tbs: bytes, algorithm: bytes, signature: bytes, certificate: bytes) -> bytes:
    """OCSPResponse with a BasicOCSPResponse and the responder's certificate."""
    certificates = der.tlv(0xA0, der.tlv(der.SEQUENCE, certificate))
    basic = signed(tbs, algorithm, signature, certificates)
    body = der.tlv(der.SEQUENCE, _BASIC + der.tlv(der.OCTET_STRING, basic))
    return der.tlv(der.SEQUENCE, _status(Status.SUCCESSFUL) + der.tlv(0xA0, body))


def refused(status: Status) -> bytes:
    """OCSPResponse without an answer."""
    return der.tlv(der.SEQUENCE, _status(status))


def _status(status: Status) -> bytes:
    return der.tlv(_ENUMERATED, bytes((status,)))
