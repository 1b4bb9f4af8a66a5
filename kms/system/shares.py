"""Shares as custodians write them: hex or base64 of 33 bytes."""

from __future__ import annotations

import base64
import binascii

from kms.errors import invalid

MAX_TEXT = 256


def parse_share(text: str) -> bytes:
    """The bytes of a share.

    Raises:
        KmsError(INVALID): empty, too long, or neither hex nor base64.
    """
    if not text:
        raise invalid("'key' must be specified in request body as JSON, or 'reset' set to true")
    if len(text) > MAX_TEXT:
        raise invalid("'key' must be a valid hex or base64 string")
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("'key' must be a valid hex or base64 string") from None
