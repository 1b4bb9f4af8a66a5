"""Tokens and accessors as strings, and the row keys made of them."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Final

from kms.errors import ErrorKind, KmsError, invalid
from kms.ids import Accessor, base62
from kms.sensitive import ACCESS, Sensitive

PREFIX: Final = "hvs."
LENGTH: Final = 24  # base62 characters, 143 bits
MAX_TOKEN: Final = 512
_RESERVED_PREFIXES = ("hvs.", "hvb.", "hvr.", "s.", "b.", "r.")
_CUSTOM = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?\Z")


class RowKeys:
    """HMAC-SHA256 of tokens and accessors under the instance's key.

    Args:
        mac_key: gives the key; raises KmsError(SEALED) while there is none.
    """

    def __init__(self, mac_key: Callable[[], Sensitive]) -> None:
        self._provide = mac_key
        self._key: Sensitive | None = None

    def forget(self) -> None:
        """Ask for the key again next time: a failed init may have shown one that never came to be."""
        self._key = None

    def token(self, token: str) -> str:
        """The row key of a token, 64 hex digits."""
        return self._mac(b"token/" + token.encode("utf-8", "surrogatepass"))

    def accessor(self, accessor: str) -> str:
        """The row key of an accessor, 64 hex digits."""
        return self._mac(b"accessor/" + accessor.encode("utf-8", "surrogatepass"))

    def _mac(self, message: bytes) -> str:
        key = self._key
        if key is None:
            key = self._key = self._provide()
        return hmac.digest(key.reveal(ACCESS), message, "sha256").hex()


def new_token() -> str:
    """A fresh service token."""
    return PREFIX + base62(LENGTH)


def new_accessor() -> Accessor:
    """A fresh accessor."""
    return Accessor(base62(LENGTH))


def check_custom(token: str) -> str:
    """A token string that a privileged caller chose.

    Raises:
        KmsError(INVALID): looks like one of ours, or cannot be sent in a header unchanged.
    """
    for prefix in _RESERVED_PREFIXES:
        if token.startswith(prefix):
            raise invalid(f"custom token ID cannot have the '{prefix}' prefix")
    if "." in token:
        raise invalid("custom token ID cannot have a '.' in the value")
    if not _CUSTOM.match(token):
        raise invalid("custom token ID must be 1 to 256 printable ASCII characters")
    return token


def refused() -> KmsError:
    """The one answer to every credential that is not in force, whatever the reason."""
    return KmsError(ErrorKind.UNAUTHENTICATED, "permission denied")
