"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header, section 2.1)."""

from __future__ import annotations

import re

from kms.errors import invalid

MAX_LENGTH = 255
_STRING = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"\Z')  # an Item Structured Header String (RFC 9651 3.3.3)
_BARE = re.compile(rb"[!#-+\--\[\]-~]*\Z")  # what most clients send: no quotes


def idempotency_key(value: bytes) -> str:
    """The key, whichever way it is written.

    Raises:
        KmsError(INVALID): empty, too long, or neither a string in quotes nor plain visible characters.
    """
    quoted = _STRING.match(value)
    if quoted is not None:
        key = re.sub(rb"\\(.)", rb"\1", quoted[1])
    elif _BARE.match(value):
        key = value
    else:
        raise invalid(
            'Idempotency-Key must be a string in quotes, like "8e03978e-40d5-43e8-bc93-6894a57f9324"'
        )
    if not 0 < len(key) <= MAX_LENGTH:
        raise invalid(f"Idempotency-Key must have 1 to {MAX_LENGTH} characters")
    return key.decode("ascii")
