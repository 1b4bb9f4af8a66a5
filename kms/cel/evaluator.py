"""Parses, checks and evaluates one program. Child side: nothing here runs in a worker.

The evaluator is Google's (cel-cpp): it bounds iterations (10,000 an evaluation) and depth by itself, and its regular
expressions are RE2's, linear in their input. Memory and time are bounded by the process (kms.cel.child).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from google.protobuf import descriptor, duration_pb2, wrappers_pb2
from google.protobuf.message import Message

from kms.cel import functions, messages
from kms.cel.wording import reworded

MAX_VALUE = 256 * 1024  # characters or members of one variable's value
_POOL = messages.pool()

# Roles return a message or an error text from one `a ? b : c`, so the types of its branches may differ.
_CONFIG = cel.NewEnvConfigFromYaml("""
name: roles
stdlib:
  exclude_functions:
    - name: "_?_:_"
functions:
  - name: "_?_:_"
    overloads:
      - id: conditional
        args:
          - type_name: bool
          - type_name: A
            is_type_param: true
          - type_name: B
            is_type_param: true
        return:
          type_name: dyn
extensions:
  - name: strings
  - name: lists
  - name: sets
  - name: regex
  - name: math
  - name: encoders
  - name: optional
""")

_MAP = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "pki": (
        "openbao.pki",
        {
            "request": _MAP,
            "parsed_csr": _MAP,
            "now": cel.Type.TIMESTAMP,
            "entity_id": cel.Type.STRING,
            "entity_groups": cel.Type.LIST,
            "entity_info": _MAP,
        },
    ),
    "jwt": ("", {"claims": _MAP, "now": cel.Type.TIMESTAMP, "operation": cel.Type.STRING}),
}

# Without a check of types the evaluator finds an enum's values only as members of a map.
_CONSTANTS = {
    "pki": {
        enum: {f"{enum}{value}": number for number, value in enumerate(values)}
        for enum, values in messages.PKI_ENUMS.items()
    }
}

# What the peer calls a value that is neither a message nor true, false or a text.
_GO_NAMES = {
    "INT": "int64",
    "UINT": "uint64",
    "DOUBLE": "float64",
    "BYTES": "[]uint8",
    "NULL": "structpb.NullValue",
    "TIMESTAMP": "time.Time",
    "DURATION": "time.Duration",
    "TYPE": "string",
}


class Refused(Exception):  # noqa: N818  (carries the text of a refusal out of the child)
    """The program is wrong, or went wrong; the text is for the caller."""


@lru_cache(maxsize=64)
def _environment(dialect: str, names: tuple[str, ...]) -> Any:
    container, declared = DIALECTS[dialect]
    for name in names:
        if name in declared:
            raise Refused(
                "error type-checking CEL MainProgram:"
                f" ERROR: <input>:-1:0: overlapping identifier for name '{name}'"
            )
    return cel.NewEnv(
        _POOL,
        config=_CONFIG,
        variables={**declared, **dict.fromkeys(names, cel.Type.DYN)},
        functions=functions.declarations(),
        container=container,
    )


@lru_cache(maxsize=512)
def _compiled(dialect: str, names: tuple[str, ...], expression: str, checked: bool) -> Any:
    return _environment(dialect, names).compile(expression, disable_check=not checked)


def check(dialect: str, variables: list[tuple[str, str]], expression: str) -> None:
    """Variables must parse; the main expression must fit the types as well, as in the peer.

    Raises:
        Refused: where and why.
    """
    names = tuple(dict.fromkeys(name for name, _ in variables))
    for index, (name, text) in enumerate(variables):
        try:
            _compiled(dialect, names, text, checked=False)
        except RuntimeError as error:
            raise Refused(
                f"failed to validate variables: variable[{index}].{name}: failed to validate:"
                f" invalid CEL syntax for variable '{name}': {reworded(error)}"
            ) from None
    try:
        _compiled(dialect, names, expression, checked=False)
    except RuntimeError as error:
        # A made-up member is an error here already; the check of types says better which.
        if "Syntax error" in str(error):
            raise Refused(f"invalid CEL syntax for main expression: {reworded(error)}") from None
    try:
        _compiled(dialect, names, expression, checked=True)
    except RuntimeError as error:
        raise Refused(f"error type-checking CEL MainProgram: {reworded(error)}") from None


def run(
    dialect: str, variables: list[tuple[str, str]], expression: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Every variable in order, then the expression: its kind and value, as `kms.cel.sandbox.Outcome` has them.

    Raises:
        Refused: the program went wrong.
    """
    names = tuple(dict.fromkeys(name for name, _ in variables))
    held = {**_CONSTANTS.get(dialect, {}), **_taken(dict(values))}
    for index, (name, text) in enumerate(variables):
        try:
            held[name] = _native(_value(dialect, names, text, held))
        except Refused as error:
            raise Refused(f"failed to evaluate variables: variable[{index}].{name}: {error}") from None
    try:
        return _outcome(_value(dialect, names, expression, held))
    except Refused as error:
        raise Refused(f"failed to evaluate expression: {error}") from None


def _value(dialect: str, names: tuple[str, ...], text: str, held: Mapping[str, Any]) -> Any:
    quoted = (
        '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    )
    try:
        result = _compiled(dialect, names, text, checked=False).eval(data=held)
        if result.type() == cel.Type.ERROR and isinstance(result.value(), str):
            raise Refused(f"failed to evaluate expression {quoted}: {reworded(result.value())}")
    except RuntimeError as error:
        raise Refused(f"failed to evaluate expression {quoted}: {reworded(error)}") from None
    except TypeError:
        # An optional has no form in Python. Like the peer's, it counts as its content or as null.
        return _value(dialect, names, f"({text}\n).orValue(null)", held)
    return result


def _taken(value: Any) -> Any:
    """Values of the request. Of `bytes` the evaluator takes what is before a zero octet; of a `bytearray`, all."""
    if isinstance(value, dict):
        return {name: _taken(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_taken(item) for item in value]
    return bytearray(value) if isinstance(value, bytes) else value


def _native(value: Any) -> Any:
    """A value in the form in which the evaluator takes it back with its type, and whole."""
    kind, held = value.type(), value.value()
    if isinstance(held, str | list | dict) and len(held) > MAX_VALUE:
        raise Refused(f"a variable holds at most {MAX_VALUE} characters or members")
    if isinstance(held, list):
        return [_native(item) for item in held]
    if isinstance(held, dict):
        if any(isinstance(name, str) and "\0" in name for name in held):
            raise Refused("a member's name cannot hold U+0000")
        return {name: _native(item) for name, item in held.items()}
    if isinstance(held, str):
        return wrappers_pb2.StringValue(value=held) if "\0" in held else held
    if kind == cel.Type.UINT:
        return wrappers_pb2.UInt64Value(value=held)
    if isinstance(held, timedelta):
        return _duration(held)
    return held


def _duration(held: timedelta) -> duration_pb2.Duration:
    made = duration_pb2.Duration()
    made.FromTimedelta(held)
    return made


def _outcome(value: Any) -> dict[str, Any]:
    kind, held = value.type(), value.value()
    if isinstance(held, bool):
        return {"kind": "bool", "value": held}
    if isinstance(held, str):
        return {"kind": "string", "value": held}
    if isinstance(held, Message) and kind.is_message():
        return {"kind": "message", "name": held.DESCRIPTOR.full_name, "value": _fields(held)}
    if isinstance(held, list | dict):
        return {"kind": "other", "name": "[]ref.Val" if isinstance(held, list) else "map[ref.Val]ref.Val"}
    return {"kind": "other", "name": _GO_NAMES.get(kind.name(), kind.name())}


def _fields(message: Message) -> dict[str, Any]:
    """The members that are set, by name; a message inside is a map, and a time is one of UTC."""
    return {field.name: _member(field, value) for field, value in message.ListFields()}


def _member(field: descriptor.FieldDescriptor, value: Any) -> Any:
    nested = field.message_type
    if nested is not None and nested.GetOptions().map_entry:
        return dict(value)
    if isinstance(value, Message):
        return _single(value)
    if isinstance(value, str | bytes | bool | int | float):
        return value
    items: Iterable[Any] = value
    return [_single(item) if isinstance(item, Message) else item for item in items]


def _single(message: Message) -> Any:
    if message.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        return _seconds(message)
    return _fields(message)


def _seconds(stamp: Any) -> int:
    """Whole seconds, cut down: certificates have no fractions."""
    return int(stamp.seconds)
