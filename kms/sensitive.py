"""A holder for secret bytes that does not leak by accident.

`repr`, `str`, formatting, pickling, hashing and `==` either show nothing or raise. Reading the bytes
needs `.reveal(ACCESS)`, which a reviewer finds with grep. CPython cannot wipe `bytes`; what Keystead
promises about memory lifetime is in SECURITY.md.
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn


class _Access:
    """The type of the token that makes every read of a secret visible in review."""


ACCESS: Final = _Access()


class Sensitive:
    """Secret bytes. Length is not secret."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self, access: _Access) -> bytes:
        """The bytes. Pass `kms.sensitive.ACCESS`."""
        if access is not ACCESS:
            raise TypeError("pass kms.sensitive.ACCESS to read a secret")
        return self._value

    def matches(self, other: bytes) -> bool:
        """Constant-time comparison with public or secret bytes."""
        return hmac.compare_digest(self._value, other)

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return f"<Sensitive {len(self._value)} bytes>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        raise TypeError("a Sensitive value cannot be formatted")

    def __eq__(self, other: object) -> bool:
        raise TypeError("compare secrets with Sensitive.matches, in constant time")

    __hash__ = None  # type: ignore[assignment]  # a secret must not become a dictionary key

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sensitive value cannot be pickled")
