"""The wire formats of the transit API: base64, `vault:v<N>:` envelopes, names of hashes.

ciphertext   vault:v<N>:base64( nonce (12) || ciphertext || tag (16) ), or base64( RSA block )
signature    vault:v<N>:base64( DER or raw ), or, for marshaling jws, unpadded base64url( r || s )
hmac         vault:v<N>:base64( mac )

Byte-compatible with Vault and OpenBao, error texts included, because clients match on them.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from kms.errors import invalid

PREFIX: Final = "vault:v"
# Our names of hashes -> hashlib's. The first five are Vault's spelling since 2015.
HASH_NAMES: Final = {
    "sha1": "sha1",
    "sha2-224": "sha224",
    "sha2-256": "sha256",
    "sha2-384": "sha384",
    "sha2-512": "sha512",
    "sha3-224": "sha3_224",
    "sha3-256": "sha3_256",
    "sha3-384": "sha3_384",
    "sha3-512": "sha3_512",
    "none": "none",
}
_NUMBER = re.compile(r"-?[0-9]{1,9}\Z")
_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_NEWLINES = str.maketrans("", "", "\r\n")

_decode = binascii.a2b_base64
_encode = binascii.b2a_base64


class Base64Error(ValueError):
    """Text that is not base64; `str()` is the Vault API's sentence, with the place of the error."""


def decode(text: str) -> bytes:
    """Standard base64 with padding (RFC 4648 section 4); line breaks are allowed, as `base64` makes them.

    Raises:
        Base64Error: anything else.
    """
    try:
        data = _decode(text, strict_mode=True)
    except ValueError:
        if "\n" in text or "\r" in text:
            return _decode_lines(text)
        raise Base64Error(f"illegal base64 data at input byte {_error_place(text)}") from None
    if len(text) % 4 or text.endswith("==="):  # binascii lets "AAAA=" and "AAAA====" pass, strict as it is
        raise Base64Error(f"illegal base64 data at input byte {_error_place(text)}")
    return data


def _decode_lines(text: str) -> bytes:
    joined = text.translate(_NEWLINES)
    if len(joined) % 4 == 0 and not joined.endswith("==="):
        try:
            return _decode(joined, strict_mode=True)
        except ValueError:
            pass
    raise Base64Error(f"illegal base64 data at input byte {_error_place(text)}")


def encode(data: bytes) -> str:
    """Standard base64 with padding, one line."""
    return _encode(data, newline=False).decode("ascii")


def _error_place(text: str) -> int:
    """The offset that the Vault API names: of the bad character, or of the group that is cut short."""
    group = 0
    raw = text.encode("utf-8", "surrogatepass")
    for place, byte in enumerate(raw):
        character = chr(byte)
        if character in "\r\n":
            continue
        if character not in _ALPHABET:
            if character != "=" or group < 2:
                return place
            # A right "=" or "==" ends the text: what is missing or too much is the error.
            rest = raw[place + 1 :].lstrip(b"\r\n")
            if group == 3:
                return place + 1
            if not rest:
                return len(raw)
            return place + 2 if rest.startswith(b"=") else place
        group = (group + 1) % 4
    return len(raw) - group


def decode_url(text: str) -> bytes:
    """Unpadded base64url (RFC 7515).

    Raises:
        Base64Error: anything else.
    """
    if "=" in text or "+" in text or "/" in text:
        raise Base64Error("illegal base64url data")
    standard = text.replace("-", "+").replace("_", "/")
    try:
        return _decode(standard + "=" * (-len(standard) % 4), strict_mode=True)
    except ValueError:
        raise Base64Error("illegal base64url data") from None


def encode_url(data: bytes) -> str:
    """Unpadded base64url (RFC 7515)."""
    return encode(data).rstrip("=").replace("+", "-").replace("/", "_")


def split(text: str, what: str) -> tuple[int, str]:
    """Take `vault:v<N>:<payload>` apart.

    Args:
        text: from a client.
        what: "ciphertext", "signature" or "HMAC", for the error text.

    Raises:
        KmsError(INVALID): it has not that form.
    """
    if not text.startswith(PREFIX):
        raise invalid(f"invalid {what}{' to verify' if what in ('HMAC', 'CMAC') else ''}: no prefix")
    number, separator, payload = text[len(PREFIX) :].partition(":")
    if not separator:
        raise invalid(f"invalid {what}: wrong number of fields")
    if not _NUMBER.match(number):
        raise invalid(f"invalid {what}: version number could not be decoded")
    return int(number), payload


def hash_name(name: str) -> str:
    """Hashlib's name of a hash.

    Raises:
        KmsError(INVALID): no such hash.
    """
    try:
        return HASH_NAMES[name]
    except KeyError:
        raise invalid(f'invalid hash algorithm "{name}"') from None
