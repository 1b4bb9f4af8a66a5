"""Answers in the Vault dialect: fixed key order, sorted data, `<>&` escaped, newline at the end.

Compared byte for byte with the real server in the tests; clients assert codes and read top-level keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kms.http.vault.route import Rendered, Route
from kms.operation import Leased, Result

_sorted = msgspec.json.Encoder(order="sorted", decimal_format="number")
_ordered = msgspec.json.Encoder(decimal_format="number")

_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
_AUTH_ORDER = (
    "client_token",
    "accessor",
    "policies",
    "token_policies",
    "identity_policies",
    "metadata",
    "lease_duration",
    "renewable",
    "entity_id",
    "token_type",
    "orphan",
    "mfa_requirement",
    "num_uses",
)

_WRAPPED = (
    b'{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":null,'
    b'"wrap_info":%b,"warnings":%b,"auth":null}\n'
)


def encode(value: Any) -> bytes:
    """JSON with sorted keys, escaped as Go's encoder does. `<`, `>` and `&` only occur in strings."""
    text = _sorted.encode(value)
    for raw, escaped in _ESCAPES:
        if raw in text:
            text = text.replace(raw, escaped)
    return text


def render(route: Route, result: Result, request_id: str, warnings: tuple[str, ...] = ()) -> Rendered:
    """The finished answer of a successful call."""
    if result.wrap is not None:
        notes = encode(result.warnings + warnings) if result.warnings + warnings else b"null"
        return Rendered(200, _WRAPPED % (_ordered.encode(result.wrap), notes))
    if route.render is not None:
        return route.render(result)
    if result.raw is not None or result.stream is not None:
        body, content_type = result.raw or (b"", "text/plain; charset=utf-8")
        return Rendered(route.status, body, content_type, result.headers, result.stream)
    empty = result.data is None and result.auth is None and result.lease is None and not result.warnings
    if empty and not route.envelope:
        return Rendered(result.status or 204, b"")
    status = (result.partial_status or route.partial_status) if result.partial else route.status
    if route.raw:
        return Rendered(status, encode(result.data) + b"\n")
    return Rendered(status, _envelope(route, result, request_id, result.warnings + warnings))


def _envelope(route: Route, result: Result, request_id: str, warnings: tuple[str, ...]) -> bytes:
    data = b"null" if result.data is None else encode(result.data)
    auth = b"null" if result.auth is None else _auth(result.auth)
    notes = encode(warnings) if warnings else b"null"
    if route.inject and result.data:
        return _injected(result.data, request_id, warnings)
    # The envelope is assembled as bytes: its keys are constants, and only `data` differs per answer.
    return b'{"request_id":"%b",%b,"data":%b,"wrap_info":null,"warnings":%b,"auth":%b}\n' % (
        request_id.encode("ascii"),
        _lease(result.lease),
        data,
        notes,
        auth,
    )


def _lease(lease: Leased | None) -> bytes:
    if lease is None:
        return b'"lease_id":"","renewable":false,"lease_duration":0'
    renewable = b"true" if lease.renewable else b"false"
    return b'"lease_id":%b,"renewable":%b,"lease_duration":%d' % (encode(lease.id), renewable, lease.seconds)


def _injected(data: Mapping[str, Any], request_id: str, warnings: tuple[str, ...]) -> bytes:
    # Old clients read the keys of a few sys/ answers at the top level; the envelope's own keys win.
    envelope = {
        "request_id": request_id,
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": data,
        "wrap_info": None,
        "warnings": warnings or None,
        "auth": None,
    }
    return encode({**data, **envelope}) + b"\n"


def _auth(auth: Mapping[str, Any]) -> bytes:
    known = {name: auth[name] for name in _AUTH_ORDER if name in auth}
    text = _ordered.encode(known | dict(auth))
    for raw, escaped in _ESCAPES:
        if raw in text:
            text = text.replace(raw, escaped)
    return text
