"""Request bodies: JSON unless they are a form, with bounds that hold before anything is built.

The bounds count bytes of the raw text (quotes, commas), so a bomb is refused at the cost of two scans
and not after a million objects exist (CVE-2025-6203, CVE-2023-6337).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from kms.errors import ErrorKind, KmsError, invalid

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_STRINGS = 200_000
MAX_VALUES = 400_000
MAX_FORM_FIELDS = 1000
_FREE_BYTES = 64 * 1024  # a body below this size cannot reach the bounds with harm

FORM = "application/x-www-form-urlencoded"
MERGE_PATCH = "application/merge-patch+json"

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_POSITION = re.compile(r"\(byte (\d+)\)")
_GO_TYPES = {list: "array", str: "string", int: "number", Decimal: "number", bool: "bool"}


def too_large() -> KmsError:
    """413 with the limit in the text."""
    return KmsError(ErrorKind.TOO_LARGE, f"the request body is larger than {MAX_BODY_BYTES} bytes")


def parse(body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a request body; an empty one has none.

    Raises:
        KmsError(INVALID): not JSON, not an object, too deep or too many values.
        KmsError(TOO_LARGE): over 32 MiB.
    """
    if not body:
        return {}
    if len(body) > MAX_BODY_BYTES:
        raise too_large()
    # Like the real server: curl -d sends JSON under the form type, and that has to work.
    if content_type.startswith(FORM) and body.lstrip()[:1] not in (b"{", b"["):
        return _form(body)
    return _json(body)


def check_patch(content_type: str) -> None:
    """PATCH is JSON merge patch (RFC 7396) and must say so.

    Raises:
        KmsError(INVALID): another type, status 415.
    """
    if content_type.split(";", maxsplit=1)[0].strip().lower() != MERGE_PATCH:
        raise KmsError(
            ErrorKind.INVALID,
            f"PATCH requires Content-Type of {MERGE_PATCH}, provided {content_type[:100]}",
            status=415,
        )


def _json(body: bytes) -> dict[str, Any]:
    if len(body) > _FREE_BYTES and (body.count(b'"') > 2 * MAX_STRINGS or body.count(b",") > MAX_VALUES):
        raise invalid("refused JSON input due to high complexity: too many strings or values")
    try:
        value = _decoder.decode(body)
    except RecursionError:
        raise invalid("failed to decode JSON input: exceeded max depth") from None
    except UnicodeDecodeError:
        raise invalid("failed to decode JSON input: invalid UTF-8 in string") from None
    except msgspec.DecodeError as error:
        if not body.strip():
            return {}
        raise invalid(f"failed to decode JSON input: {_reason(body, str(error))}") from None
    if isinstance(value, dict):
        return value
    if value is None:
        return {}
    kind = _GO_TYPES.get(type(value), "value")
    raise invalid(
        f"failed to decode JSON input: json: cannot unmarshal {kind} into Go value of type "
        "map[string]interface {}"
    )


def _reason(body: bytes, text: str) -> str:
    """The parser's complaint in the words that clients know, naming one character at most."""
    position = _POSITION.search(text)
    if position is None:
        return "unexpected EOF" if "truncated" in text else "invalid number or string"
    if "trailing comma" in text:
        return "invalid character ',' looking for beginning of value"
    at = int(position[1])
    if "trailing characters" in text:
        return "invalid character after top-level value"
    if at >= len(body):
        return "unexpected EOF"
    shown = chr(body[at]) if 0x20 <= body[at] < 0x7F else f"\\x{body[at]:02x}"
    return f"invalid character '{shown}' looking for beginning of value"


def _form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError:
        raise invalid("error parsing form data") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            held = fields[name]
            fields[name] = [*held, value] if isinstance(held, list) else [held, value]
        else:
            fields[name] = value
    return fields
