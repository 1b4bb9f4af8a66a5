"""The functions of programs besides the language's own: check_valid_email, encode_json, decode_json. Child side."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from email.errors import HeaderParseError
from email.headerregistry import Address, HeaderRegistry
from typing import Any

from cel_expr_python import cel

_MAX_JSON = 256 * 1024
_HTML = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_KINDS = ("MAP", "LIST", "STRING", "INT", "UINT", "DOUBLE", "BOOL", "BYTES", "NULL", "DURATION", "TIMESTAMP")


def declarations() -> list[Any]:
    """For an environment. Values find their function by their own type, so a dynamic one needs each spelled out."""
    each = [(kind.lower(), getattr(cel.Type, kind)) for kind in _KINDS]
    text, dyn = cel.Type.STRING, cel.Type.DYN
    return [
        cel.FunctionDecl("check_valid_email", [_overload("email", cel.Type.BOOL, text, is_email)]),
        cel.FunctionDecl("decode_json", [_overload("decode", dyn, text, decode_json)]),
        cel.FunctionDecl(
            "encode_json", [_overload(f"encode_{name}", dyn, kind, encode_json) for name, kind in each]
        ),
    ]


def _overload(name: str, returns: Any, takes: Any, act: Callable[[Any], Any]) -> Any:
    return cel.Overload(name, returns, [takes], False, act)


def is_email(text: str) -> bool:
    """One mailbox, with or without a name before it (RFC 5322 3.4)."""
    if not text.isprintable() or len(text) > 1024:
        return False
    try:
        parsed: Any = HeaderRegistry()("to", text)
    except (HeaderParseError, IndexError, ValueError):
        return False
    found: tuple[Address, ...] = parsed.addresses
    return len(found) == 1 and not parsed.defects and bool(found[0].username) and bool(found[0].domain)


def encode_json(value: Any) -> str | bool:
    """A map as JSON, members in order of their names; anything else is false, as in the peer."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return False
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).translate(_HTML)


def decode_json(text: str) -> Any:
    """The value of a JSON text, its numbers all of them floating; false for what is none."""
    # A text with U+0000 would come back to the program cut off before it.
    if len(text) > _MAX_JSON or "\\u0000" in text or "\0" in text:
        return False
    try:
        return json.loads(text, parse_int=float, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return False


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return value if value is None or isinstance(value, str | int | float) else str(value)
