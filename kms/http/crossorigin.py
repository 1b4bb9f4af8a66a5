"""CORS: pages that may read answers are told so, others are refused before anything else is looked at.

Without a setting (sys/config/cors) nothing of this happens, and a browser shows a page no answer of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kms.errors import ErrorKind, KmsError
from kms.http.vault.errors import nothing, render_error
from kms.http.vault.route import Rendered
from kms.system.crossorigin import MAX_AGE_SECONDS, METHODS

Added = tuple[tuple[str, str], ...]
"""Headers that the answer gets besides its own."""
_NOTHING: Added = ()


class Rule(Protocol):
    """`kms.system.crossorigin.CrossOrigin`, as a door sees it."""

    def allows(self, origin: str) -> bool | None: ...

    def headers(self) -> tuple[str, ...]: ...


def judge(rule: Rule, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Rendered | Added:
    """What a request from a page comes to: the whole answer, or what is added to it.

    Args:
        rule: which pages may.
        method: of the request.
        headers: names in lower case.
    """
    origin, wanted = None, b""
    for name, value in headers:
        if name == b"origin":
            origin = value.decode("latin-1")
        elif name == b"access-control-request-method":
            wanted = value
    if origin is None:
        return _NOTHING
    allowed = rule.allows(origin)
    if allowed is None:
        return _NOTHING
    if not allowed:
        return render_error(KmsError(ErrorKind.INVALID, "origin not allowed", status=403))
    said: Added = (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
    if method != "OPTIONS":
        return said
    if wanted.decode("latin-1") not in METHODS:
        return nothing(405)
    preflight = (
        ("Access-Control-Allow-Headers", ",".join(rule.headers())),
        ("Access-Control-Allow-Methods", ",".join(METHODS)),
        ("Access-Control-Max-Age", str(MAX_AGE_SECONDS)),
    )
    return Rendered(200, b"", headers=(*said, *preflight))
