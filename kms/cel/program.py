"""A role's program: named expressions in order, and the one whose value decides. Texts and leniency are the peer's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from kms.errors import invalid

MAX_EXPRESSION = 16 * 1024  # characters of one expression
MAX_VARIABLES = 64
MAX_PROGRAM = 64 * 1024  # characters of all of them together

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


class Variable(msgspec.Struct, frozen=True):
    """An expression whose value later ones can use."""

    name: str
    expression: str


class Program(msgspec.Struct, frozen=True):
    """Variables in the order in which they are evaluated, and the expression that decides."""

    expression: str
    variables: tuple[Variable, ...] = ()


def parse(raw: object) -> Program:
    """A program as a client sends it; unknown members are ignored.

    Raises:
        KmsError(INVALID): it is missing, not of that form, empty or too large.
    """
    if raw is None:
        raise invalid("missing required field 'cel_program'")
    program = patched(Program(""), raw)
    if not program.expression:
        raise invalid("cel_program.expression cannot be empty")
    return program


def patched(base: Program, raw: object) -> Program:
    """`base` with the members that `raw` has; a list of variables replaces the whole list."""
    if not isinstance(raw, Mapping):
        raise invalid("'cel_program' must be a valid map")
    expression, variables = base.expression, base.variables
    if raw.get("expression") is not None:
        expression = _text(raw["expression"], "expression")
    if raw.get("variables") is not None:
        variables = _variables(raw["variables"])
    program = Program(expression, variables)
    _check(program)
    return program


def shown(program: Program) -> dict[str, Any]:
    """As the API shows it."""
    data: dict[str, Any] = {"expression": program.expression}
    if program.variables:
        data["variables"] = [{"name": v.name, "expression": v.expression} for v in program.variables]
    return data


def _variables(raw: object) -> tuple[Variable, ...]:
    if not isinstance(raw, list):
        kind = "map" if isinstance(raw, Mapping) else type(raw).__name__
        raise invalid(
            "failed to decode 'cel_program': decoding failed due to the following error(s):\n\n"
            f"'Variables' source data must be an array or slice, got {kind}"
        )
    found = []
    for index, each in enumerate(raw):
        if not isinstance(each, Mapping):
            raise invalid(f"failed to decode 'cel_program': 'Variables[{index}]' expected a map")
        name = _text(each.get("name") or "", f"Variables[{index}].name")
        # The peer stores a variable that no expression can name, and never evaluates it by that name.
        if not _NAME.match(name):
            raise invalid(f"variable[{index}] needs a name of letters, digits and '_', at most 128 of them")
        found.append(Variable(name, _text(each.get("expression") or "", f"Variables[{index}].expression")))
    return tuple(found)


def _text(value: object, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise invalid(f"failed to decode 'cel_program': '{name}' expected type 'string'")
    return str(value)


def _check(program: Program) -> None:
    texts = [program.expression, *(variable.expression for variable in program.variables)]
    if len(program.variables) > MAX_VARIABLES:
        raise invalid(f"a program has at most {MAX_VARIABLES} variables")
    if max(map(len, texts)) > MAX_EXPRESSION or sum(map(len, texts)) > MAX_PROGRAM:
        raise invalid(
            f"an expression has at most {MAX_EXPRESSION} characters, and a program {MAX_PROGRAM} in all"
        )
