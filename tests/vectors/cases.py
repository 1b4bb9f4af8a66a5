"""What a vector asks of the API: a key to import, one request, and what must come back."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

REFUSED = "refused"  # an answer that is an error, or `valid: false`


@dataclass(frozen=True)
class Key:
    """What is imported: raw bytes or PKCS#8 DER as `private`, or a public key in PEM."""

    type: str
    private: bytes = b""
    public: str = ""


@dataclass(frozen=True)
class Case:
    """One vector.

    Args:
        id: where it stands in its file.
        key: becomes a version of a key of its type.
        operation: decrypt, unwrap, wrap, verify, sign, hmac, cmac, shared-secret, or import (the key alone).
        path: behind the key's name, for the hash.
        common: fields of the request.
        item: fields of the vector; `{v}` becomes `vault:v<N>:`.
        expect: the result, or REFUSED.
    """

    id: str
    key: Key
    operation: str
    item: dict[str, str] = field(default_factory=dict)
    expect: Any = None
    path: str = ""
    common: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Excluded:
    """A vector that cannot be asked of the API, and why."""

    id: str
    reason: str


Read = Iterator[Case | Excluded]


def b64(data: bytes) -> str:
    """As the API takes bytes."""
    return b64encode(data).decode()


def sealed(data: bytes) -> str:
    """With the place of the version's prefix."""
    return "{v}" + b64(data)
