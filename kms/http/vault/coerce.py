"""Lenient input, strict output: what the Vault API accepts for each field type.

Clients of ten years send "true", 1, "1h30m", "3600", ["k=v"] and "a,b". They are turned into one
Python type per field here, once; operations never see a second spelling. JSON numbers with a
fraction or an exponent arrive as `Decimal`, so that stored documents come back as they were sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from kms.durations import seconds
from kms.errors import KmsError, invalid
from kms.operation import WHOLE_BODY, Field, Operation, Type

MAX_INT = 2**63 - 1
MAX_WRAP_SECONDS = 10 * 365 * 86_400
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})


class _Unconvertible(Exception):  # noqa: N818  (carries the text of a 400, never leaves this module)
    pass


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "map[string]interface {}"
    return "[]interface {}" if isinstance(value, list) else "json.Number"


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | Decimal):
        return str(value)
    raise _Unconvertible(f"'' expected type 'string', got unconvertible type '{_kind(value)}'")


def _int(value: object) -> int:
    if isinstance(value, bool):
        return int(value)
    if value == "":
        return 0
    number = value if isinstance(value, int) else None
    if isinstance(value, str) and _INTEGER.match(value):
        number = int(value)
    if number is None:
        if isinstance(value, str | Decimal):
            raise _Unconvertible("'' cannot parse value as 'int': strconv.ParseInt: invalid syntax")
        raise _Unconvertible(f"'' expected type 'int', got unconvertible type '{_kind(value)}'")
    if not -MAX_INT - 1 <= number <= MAX_INT:
        raise _Unconvertible("'' cannot parse value as 'int': strconv.ParseInt: value out of range")
    return number


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int | Decimal):
        value = str(value)
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise _Unconvertible("'' cannot parse value as 'bool': strconv.ParseBool: invalid syntax")
    raise _Unconvertible(f"'' expected type 'bool', got unconvertible type '{_kind(value)}'")


def _seconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise _Unconvertible("could not parse duration from input")
    try:
        number = seconds(str(value))
    except ValueError as error:
        raise _Unconvertible(str(error)) from None
    if number < 0:
        raise _Unconvertible(f"cannot provide negative value '{number}'")
    if number > MAX_INT:
        raise _Unconvertible("duration out of range")
    return number


def _strings(value: object) -> list[str]:
    items = value if isinstance(value, list) else _objects(value) or _string(value).split(",")
    texts = [_string(item).strip() for item in items]
    return [text for text in texts if text]


def _objects(value: object) -> list[str]:
    """Each object of a text that is a JSON list of objects, as text: how Terraform sends policy_identifiers."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return []
    try:
        items = json.loads(value)
    except (ValueError, RecursionError):
        return []
    if not all(isinstance(item, dict) for item in items):
        return []
    return [json.dumps(item, separators=(",", ":"), ensure_ascii=False) for item in items]


def _map(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    pairs = value if isinstance(value, list) else [value]
    found: dict[str, Any] = {}
    for index, pair in enumerate(pairs):
        name, separator, text = pair.partition("=") if isinstance(pair, str) else ("", "", "")
        if not separator:
            raise _Unconvertible(f"invalid key pair at index {index}")
        found[name.strip()] = text.strip()
    return found


def _items(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise _Unconvertible("source data must be an array of objects")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise _Unconvertible(f"[{index}] expected a map")
    return value


def _any(value: object) -> object:
    return value


_COERCERS: dict[Type, Callable[[object], object]] = {
    Type.STRING: _string,
    Type.INT: _int,
    Type.BOOL: _bool,
    Type.SECONDS: _seconds,
    Type.STRINGS: _strings,
    Type.MAP: _map,
    Type.ITEMS: _items,
    Type.ANY: _any,
}


def coerce(field: Field, value: object) -> Any:
    """`value` as the type of `field`.

    Raises:
        KmsError(INVALID): it cannot be one; the text names the field, never the value of a payload.
    """
    try:
        return _COERCERS[field.type](value)
    except _Unconvertible as error:
        raise _refusal(field, error) from None


def _refusal(field: Field, error: Exception) -> KmsError:
    return invalid(f'Field validation failed: error converting input for field "{field.name}": {error}')


def wrap_seconds(value: bytes) -> int:
    """The header X-Vault-Wrap-TTL; 0 for no wrapping. Less than a second is one.

    Raises:
        KmsError(INVALID): no duration, negative, or longer than anybody waits.
    """
    text = value.decode("latin-1")
    try:
        number = seconds(text)
    except ValueError:
        # Not quoted, as the peer does: what is in a header by mistake may be a secret.
        raise invalid("error parsing X-Vault-Wrap-TTL header: time: invalid duration") from None
    if number < 0 or text.startswith("-"):
        raise invalid("error parsing X-Vault-Wrap-TTL header: requested wrap ttl cannot be negative")
    if number > MAX_WRAP_SECONDS:
        raise invalid("error parsing X-Vault-Wrap-TTL header: at most ten years")
    return number or int(any(digit in "123456789" for digit in text))


class Plan:
    """The fields of one operation, looked up once at start instead of once per request."""

    __slots__ = ("_coercers", "_defaults", "_required", "_whole")

    def __init__(self, operation: Operation) -> None:
        self._coercers = {f.name: (_COERCERS[f.type], f) for f in operation.fields if f.name != WHOLE_BODY}
        self._defaults = {f.name: f.default for f in operation.fields}
        self._required = tuple(f.name for f in operation.fields if f.required)
        self._whole = WHOLE_BODY in self._defaults

    def arguments(
        self, given: Mapping[str, object], path: Mapping[str, str]
    ) -> tuple[dict[str, Any], frozenset[str], tuple[str, ...]]:
        """Coerce what the client sent; path parameters win over fields of the same name.

        Returns:
            Arguments with defaults filled in, the names really given, and warnings.

        Raises:
            KmsError(INVALID): a value of the wrong type, or a required field is missing.
        """
        args = dict(self._defaults)
        names = set(path)
        ignored: list[str] = []
        replaced: list[str] = []
        for name, value in given.items():
            if name in path:
                replaced.append(name)
                continue
            entry = self._coercers.get(name)
            if entry is None:
                ignored.append(name)
                continue
            coercer, field = entry
            if value is None and field.type is not Type.STRING:
                continue  # null means "not given"; for strings the API takes it as ""
            try:
                args[name] = coercer(value)
            except _Unconvertible as error:
                raise _refusal(field, error) from None
            names.add(name)
        if self._whole:
            args[WHOLE_BODY] = dict(given)
            ignored = []
        for name, text in path.items():
            entry = self._coercers.get(name)
            args[name] = coerce(entry[1], text) if entry else text
        for name in self._required:
            if name not in names:
                raise invalid(f"missing {name}")
        return args, frozenset(names), _warnings(ignored, replaced) if ignored or replaced else ()


def _warnings(ignored: list[str], replaced: list[str]) -> tuple[str, ...]:
    texts = []
    if ignored:
        texts.append(f"Endpoint ignored these unrecognized parameters: [{_listed(ignored)}]")
    if replaced:
        texts.append(
            "Endpoint replaced the value of these parameters with the values captured from the "
            f"endpoint's path: [{_listed(replaced)}]"
        )
    return tuple(texts)


def _listed(names: list[str]) -> str:
    shown = sorted(names)[:16]
    return " ".join(name[:64] for name in shown) + (" ..." if len(names) > len(shown) else "")
