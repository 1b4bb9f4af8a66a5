"""Batch tokens: a token that is its own record, encrypted, and has no row.

    hvb. base64url( version 1 | salt 24 | AES-256-GCM of the token | tag 16 ) [ . ID of its namespace ]

Each is encrypted under a key of its own, HMAC-SHA256 of a random salt under a key that is derived from the keyring,
so that no bound on uses of one key is ever near. A theft of the keyring that was mended ends all of them: the key is
derived from the newest secret. Nothing is written when one is made and nothing is read when one is used, but what
its parent, its mount, its entity and revoked prefixes say; so it cannot be renewed, revoked or counted by itself.
"""

from __future__ import annotations

import binascii
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kms.errors import invalid
from kms.identity.keys import placed
from kms.identity.model import BATCH, Token
from kms.sensitive import ACCESS, Sensitive

PREFIX: Final = "hvb."
MAX_BATCH: Final = 4096
"""Characters; a header of twice that is refused by servers on the way."""
_VERSION: Final = b"\x01"
_SALT: Final = 24
_NONCE: Final = bytes(12)  # each key encrypts once
_KEPT = 4_096


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """What a batch token says. Fields may be added at the end, with defaults."""

    parent: str
    expires_at: float
    created: float
    creation_ttl: int
    policies: tuple[str, ...]
    path: str
    display_name: str
    meta: dict[str, str] | None
    role: str
    bound_cidrs: tuple[str, ...]
    login: str
    entity_id: str
    mfa: bool
    namespace: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


class BatchTokens:
    """Seals and opens them. One per process, safe to use from several threads.

    Args:
        key: gives the key of this instance for batch tokens; asked each time, because it may be renewed.
    """

    def __init__(self, key: Callable[[], Sensitive]) -> None:
        self._key = key
        self._opened: dict[str, tuple[bytes, Token]] = {}

    def seal(self, token: Token) -> str:
        """The string that its bearer gets.

        Raises:
            KmsError(INVALID): it would be too long for a header.
        """
        names = _Body.__struct_fields__
        body = _encode(_Body(*(getattr(token, name) for name in names)))
        salt = os.urandom(_SALT)
        sealed = _cipher(self._key().reveal(ACCESS), salt).encrypt(_NONCE, body, _VERSION)
        text = PREFIX + urlsafe_b64encode(_VERSION + salt + sealed).decode("ascii").rstrip("=")
        text = placed(text, token.namespace)
        if len(text) > MAX_BATCH:
            raise invalid(
                f"a batch token has at most {MAX_BATCH} characters; give it fewer policies or less metadata"
            )
        return text

    def open(self, text: str) -> Token | None:
        """The token, None for a string that this server did not make. Says nothing about whether it is in force."""
        key = self._key().reveal(ACCESS)
        known = self._opened.get(text)
        if known is not None and hmac.compare_digest(known[0], key):
            return known[1]
        token = _open(key, text)
        if token is not None:
            if len(self._opened) >= _KEPT:
                self._opened.clear()
            self._opened[text] = (key, token)
        return token


def is_batch(text: str) -> bool:
    """Whether a presented string claims to be a batch token."""
    return text.startswith(PREFIX)


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(hmac.digest(key, b"batch-token/" + salt, "sha256"))


def _open(key: bytes, text: str) -> Token | None:
    if len(text) > MAX_BATCH:
        return None
    encoded, dot, suffix = text.removeprefix(PREFIX).partition(".")
    try:
        raw = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        return None
    # One spelling: base64 that decodes to the same bytes in another way is another string.
    if urlsafe_b64encode(raw).decode("ascii").rstrip("=") != encoded or raw[:1] != _VERSION:
        return None
    salt, sealed = raw[1 : 1 + _SALT], raw[1 + _SALT :]
    try:
        body = _decode(_cipher(key, salt).decrypt(_NONCE, sealed, _VERSION))
    except (InvalidTag, ValueError):
        return None
    if dot + suffix != placed("", body.namespace):
        return None  # one spelling here too: what is cut off or exchanged is another string
    fields = {name: getattr(body, name) for name in _Body.__struct_fields__}
    return Token(accessor="", type=BATCH, lease_ttl=body.creation_ttl, **fields)
