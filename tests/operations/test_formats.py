"""Wire formats: what is accepted, and the place that the Vault API names when it is not."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.errors import KmsError
from kms.operations.formats import Base64Error, decode, decode_url, encode, encode_url, hash_name, split

# Places as the real server names them (bao 2.7.2, transit/hash).
BAD = [
    ("!!!", 0),
    ("aGVsbG8", 4),
    ("aGVsbG8=x", 8),
    ("aGV", 0),
    ("aG=", 3),
    ("a===", 1),
    ("====", 0),
    ("aGVsbG8=aGVs", 8),
    ("aGVs!bG8=", 4),
    ("é", 0),
    ("a", 0),
    ("aGVsbG8==", 8),
    ("aG=x", 2),
    ("aG= =", 2),
    (" aGVs", 0),
    ("aGVs-_==", 4),
    ("\ud800", 0),
    ("aGVs=", 4),
    ("aGVs\n=", 5),
    ("aGVsaGVs=", 8),
    ("aGVs====", 4),
]


@pytest.mark.parametrize(("text", "place"), BAD)
def test_what_is_not_base64_is_named_by_place(text: str, place: int) -> None:
    with pytest.raises(Base64Error) as caught:
        decode(text)
    assert str(caught.value) == f"illegal base64 data at input byte {place}"


GOOD = [
    ("", b""),
    ("aGVsbG8=", b"hello"),
    ("aGVs\nbG8=\n", b"hello"),
    ("aGVs\r\nbG8=", b"hello"),
    ("aG==", b"h"),
]


@pytest.mark.parametrize(("text", "data"), GOOD)
def test_base64_may_have_line_breaks(text: str, data: bytes) -> None:
    assert decode(text) == data


@given(st.binary(max_size=200))
def test_both_alphabets_round_trip(data: bytes) -> None:
    assert decode(encode(data)) == data
    assert decode_url(encode_url(data)) == data
    assert encode(data) == base64.b64encode(data).decode()


@given(st.text(max_size=40))
def test_no_text_makes_the_decoder_fall_over(text: str) -> None:
    for function in (decode, decode_url):
        try:
            function(text)
        except Base64Error:
            continue


@pytest.mark.parametrize("text", ["aGVsbG8=", "a+b/", "a", "!!"])
def test_base64url_has_no_padding_and_its_own_alphabet(text: str) -> None:
    with pytest.raises(Base64Error):
        decode_url(text)


MALFORMED = [
    ("x", "ciphertext", "invalid ciphertext: no prefix"),
    ("", "ciphertext", "invalid ciphertext: no prefix"),
    ("vault:", "ciphertext", "invalid ciphertext: no prefix"),
    ("Vault:v1:x", "ciphertext", "invalid ciphertext: no prefix"),
    (" vault:v1:x", "ciphertext", "invalid ciphertext: no prefix"),
    ("vault:v", "ciphertext", "invalid ciphertext: wrong number of fields"),
    ("vault:v1", "ciphertext", "invalid ciphertext: wrong number of fields"),
    ("vault:vx:a", "ciphertext", "invalid ciphertext: version number could not be decoded"),
    ("vault:v:a", "ciphertext", "invalid ciphertext: version number could not be decoded"),
    ("vault:v1_0:a", "ciphertext", "invalid ciphertext: version number could not be decoded"),
    ("vault:v 1:a", "ciphertext", "invalid ciphertext: version number could not be decoded"),
    ("vault:v\u0661:a", "ciphertext", "invalid ciphertext: version number could not be decoded"),
    ("vault:v9999999999:a", "ciphertext", "invalid ciphertext: version number could not be decoded"),
    ("x", "signature", "invalid signature: no prefix"),
    ("vault:v1", "signature", "invalid signature: wrong number of fields"),
    ("x", "HMAC", "invalid HMAC to verify: no prefix"),
    ("vault:v1", "HMAC", "invalid HMAC: wrong number of fields"),
]


@pytest.mark.parametrize(("text", "what", "expected"), MALFORMED)
def test_an_envelope_that_is_none_is_refused(text: str, what: str, expected: str) -> None:
    with pytest.raises(KmsError) as caught:
        split(text, what)
    assert caught.value.detail == expected


def test_an_envelope_comes_apart() -> None:
    payload = encode(os.urandom(20))
    assert split(f"vault:v12:{payload}", "ciphertext") == (12, payload)


def test_an_unknown_hash_is_named() -> None:
    with pytest.raises(KmsError, match='invalid hash algorithm "md5"'):
        hash_name("md5")
