"""The reader of OCSP requests: what cryptography writes, and nothing that is not DER or outside the bounds."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st

from pki import ocspder
from pki.ocspder import Asked, CertId, MalformedRequestError, Single

HASHES = (hashes.SHA1(), hashes.SHA256(), hashes.SHA384())  # noqa: S303  (what many clients ask with)


def built(algorithm: hashes.HashAlgorithm, digest: bytes, serial: int, nonce: bytes) -> bytes:
    name, key = digest[: algorithm.digest_size], digest[-algorithm.digest_size :]
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name, key, serial, algorithm)
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


REQUESTS = st.builds(
    built,
    st.sampled_from(HASHES),
    st.binary(min_size=96, max_size=96),
    st.integers(1, (1 << 159) - 1),
    st.binary(max_size=128),
)


@settings(max_examples=200, deadline=None)
@given(data=REQUESTS)
def test_requests_are_read_as_cryptography_reads_them(data: bytes) -> None:
    theirs, ours = ocsp.load_der_ocsp_request(data), ocspder.parse(data)
    (asked,) = ours.certificates
    assert asked.serial == theirs.serial_number
    assert (asked.name_hash, asked.key_hash) == (theirs.issuer_name_hash, theirs.issuer_key_hash)
    name = theirs.hash_algorithm.name
    assert asked.hash_name == (name if name in {"sha1", "sha256"} else "")
    nonces = [extension.value for extension in theirs.extensions]
    assert [ours.nonce] == ([nonce.nonce for nonce in nonces if isinstance(nonce, x509.OCSPNonce)] or [b""])
    assert asked.der in data


@settings(max_examples=500, deadline=None)
@given(data=REQUESTS, at=st.integers(0, 200), octet=st.integers(0, 255), cut=st.booleans())
def test_damage_is_refused_or_read_and_never_crashes(data: bytes, at: int, octet: int, cut: bool) -> None:
    at %= len(data)
    damaged = data[:at] if cut else data[:at] + bytes((octet,)) + data[at + 1 :]
    try:
        read = ocspder.parse(damaged)
    except MalformedRequestError:
        return
    assert isinstance(read, Asked)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_anything_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        ocspder.parse(data)


def test_a_request_that_is_too_large_is_refused() -> None:
    with pytest.raises(MalformedRequestError):
        ocspder.parse(bytes(ocspder.MAX_REQUEST_BYTES + 1))


def test_lengths_must_be_der() -> None:
    """What is repeated in an answer is signed with it."""
    data = built(HASHES[1], bytes(96), 5, b"")
    assert data[1] < 0x80
    longer = b"\x30\x81" + data[1:]
    with pytest.raises(MalformedRequestError):
        ocspder.parse(longer)


def test_a_serial_that_none_has_is_unknown_and_not_an_error() -> None:
    certificate = CertId(b"\x30\x00", "sha1", b"", b"", 0)
    data = ocspder.response_data(bytes(20), 1_795_300_000, 0, [Single(certificate, known=False)], b"")
    assert b"\x82\x00" in data
