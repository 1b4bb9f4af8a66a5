"""One spelling per path: parse the request target once, refuse what is not canonical.

Policy, audit and storage all see the string made here, so a path that means the same under two
spellings would be two answers to "may I?" (CVE-2026-3605: dots bypassed a policy). Nothing is
cleaned up behind the caller's back; `//` alone is answered with a redirect, as the real server does,
because clients that join URLs by hand rely on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from kms.errors import ErrorKind, KmsError, invalid
from kms.http.vault.route import Rendered

PREFIX = b"/v1/"
WELL_KNOWN = b"/.well-known/"
MAX_PATH_BYTES = 4096
MAX_SEGMENT_CHARACTERS = 512
MAX_QUERY_FIELDS = 64

_SLASHES = re.compile(rb"/{2,}")
# Encoded separators would be one segment to a router and two to whoever decodes later.
_FORBIDDEN_RAW = re.compile(rb"%2f|%5c|%00|\\|\x00", re.IGNORECASE)
_FORBIDDEN_TEXT = re.compile("[\x00-\x1f\x7f\ufffd\u2028\u2029]")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answer 307 with this Location."""

    location: str


def canonical(raw_path: bytes) -> str | Redirect | None:
    """The path below /v1/ (a trailing '/' kept), a redirect, or None for what is not ours.

    Raises:
        KmsError(INVALID): relative segments, encoded separators, control characters, not UTF-8.
        KmsError(TOO_LARGE): the path is over 4,096 bytes.
    """
    if len(raw_path) > MAX_PATH_BYTES:
        raise KmsError(ErrorKind.TOO_LARGE, f"the path is longer than {MAX_PATH_BYTES} bytes", status=414)
    if b"//" in raw_path:
        return Redirect(_SLASHES.sub(b"/", raw_path).decode("latin-1"))
    if not raw_path.startswith(PREFIX):
        return None
    rest = raw_path[len(PREFIX) :]
    if b"%" in rest or b"\\" in rest or not rest.isascii():
        rest = _decoded(rest)
    text = rest.decode("utf-8")
    if "." in text and not {".", ".."}.isdisjoint(text.split("/")):
        raise invalid("relative paths not supported")
    if not text.isprintable() and _FORBIDDEN_TEXT.search(text):
        raise invalid("the path contains a control character")
    return text


def _decoded(rest: bytes) -> bytes:
    if _FORBIDDEN_RAW.search(rest):
        raise invalid("the path contains a backslash, an encoded slash or a zero byte")
    decoded = unquote_to_bytes(rest)
    if _FORBIDDEN_RAW.search(decoded):
        # %255c and the like: whoever decodes once more must not find a separator.
        raise invalid("the path contains a doubly encoded separator")
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid("the path is not valid UTF-8") from None
    return decoded


def query_fields(query: bytes) -> dict[str, str]:
    """Query parameters; a repeated one keeps its last value.

    Raises:
        KmsError(INVALID): too many, or not decodable.
    """
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_QUERY_FIELDS,
        )
    except ValueError:
        raise invalid("the query string cannot be decoded, or has too many parameters") from None
    return dict(pairs)


def wants_list(fields: dict[str, str]) -> bool | Rendered:
    """Whether GET means LIST (`?list=true`); a finished 400 when the value is not a boolean."""
    value = fields.pop("list", None)
    if value is None or value in _FALSE:
        return False
    if value in _TRUE:
        return True
    return Rendered(400, b'{"errors":[]}\n')
