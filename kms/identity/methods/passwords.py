"""Passwords at rest: Argon2id (RFC 9106), 19 MiB and two passes (OWASP's floor), in PHC form."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from kms.errors import invalid

MAX_BYTES: Final = 1024
_ITERATIONS, _LANES, _MEMORY_KIB, _SALT, _LENGTH = 2, 1, 19_456, 16, 32


def hashed(password: str) -> str:
    """As it is stored. Takes about 30 ms of CPU: never inside a transaction.

    Raises:
        KmsError(INVALID): too long.
    """
    text = password.encode("utf-8", "surrogatepass")
    if len(text) > MAX_BYTES:
        raise invalid(f"a password has at most {MAX_BYTES} bytes")
    kdf = Argon2id(
        salt=secrets.token_bytes(_SALT),
        length=_LENGTH,
        iterations=_ITERATIONS,
        lanes=_LANES,
        memory_cost=_MEMORY_KIB,
    )
    return kdf.derive_phc_encoded(text)


@cache
def _nobody() -> str:
    return hashed(secrets.token_urlsafe(32))


def matches(password: str, stored: str | None) -> bool:
    """Whether it is the password; None (no such user) costs the same work and is False."""
    text = password.encode("utf-8", "surrogatepass")
    if len(text) > MAX_BYTES:
        text, stored = b"", None
    try:
        Argon2id.verify_phc_encoded(text, stored if stored is not None else _nobody())
    except InvalidKey:
        return False
    return stored is not None
