"""Claims that a role or scope adds: a JSON text with {{names}}, each of which stands for a JSON value.

Pure. A name stands where a JSON value stands, and becomes a string, a list or an object, quoted: a value can never end
the string that it is in, nor add a claim.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kms.durations import seconds
from kms.errors import invalid
from kms.identity.entities.model import Alias, Entity, Group, Standing

RESERVED: Final = ("iat", "aud", "exp", "iss", "sub", "namespace", "nonce", "auth_time", "at_hash", "c_hash")
MAX_CHARACTERS: Final = 16_384
_UNBALANCED: Final = "unbalanced templating characters"
_MISSING: Final = "no value could be found for one of the template directives"
_NOBODY: Final = Entity(id="", name="", created=0.0, updated=0.0)


class TemplateError(Exception):
    """The template cannot be filled in; the text says why, in the peer's words."""


def decoded(template: str) -> str:
    """The template, taken out of base64 where it is in it, as the peer does."""
    try:
        return base64.b64decode(template, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return template


def check(template: str) -> str:
    """A template that may be stored.

    Raises:
        KmsError(INVALID): it is no JSON object once it is filled in, or claims what is not its own.
    """
    template = decoded(template)
    if not template:
        return ""
    if len(template) > MAX_CHARACTERS:
        raise invalid(f"a template has at most {MAX_CHARACTERS} characters")
    try:
        filled = fill(template, Standing(_NOBODY), 0.0)
    except TemplateError as error:
        raise invalid(f"error parsing template: {error}") from None
    claims = _object(filled)
    if claims is None:
        raise invalid("error parsing template JSON: it is not a JSON object")
    for name in claims:
        if name in RESERVED:
            raise invalid(f'top level key "{name}" not allowed. Restricted keys: {", ".join(RESERVED)}')
    return template


def claims_of(template: str, standing: Standing | None, now: float) -> dict[str, Any]:
    """The claims of a stored template for an entity, or for nobody; none where it cannot be filled in for this one."""
    try:
        claims = _object(fill(template, standing, now)) if template else None
    except TemplateError:
        return {}
    return {name: value for name, value in (claims or {}).items() if name not in RESERVED}


def names_of(template: str) -> set[str]:
    """The claims that a stored template makes."""
    return set(claims_of(template, Standing(_NOBODY), 0.0))


def _object(text: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def fill(template: str, standing: Standing | None, now: float) -> str:
    """The text with its names replaced. Raises TemplateError."""
    first, *pieces = template.split("{{")
    if "}}" in first:
        raise TemplateError(_UNBALANCED)
    parts = [first]
    for piece in pieces:
        name, *rest = piece.split("}}")
        if len(rest) != 1:
            raise TemplateError(_UNBALANCED)
        parts += [_value(name.strip(), standing, now), rest[0]]
    return "".join(parts)


def _value(name: str, standing: Standing | None, now: float) -> str:
    for prefix, find in (
        ("identity.entity.", _entity),
        ("identity.groups.", _groups),
    ):
        if name.startswith(prefix):
            if standing is None:
                raise TemplateError("string contains entity template directives but no entity was provided")
            return find(name.removeprefix(prefix), standing)
    if name.startswith("time."):
        return _time(name.removeprefix("time."), now)
    raise TemplateError(_MISSING)


def _entity(name: str, standing: Standing) -> str:
    entity = standing.entity
    if name.startswith("aliases."):
        accessor, dot, what = name.removeprefix("aliases.").partition(".")
        if not dot:
            raise TemplateError("invalid alias selector")
        held = next((alias for alias in entity.aliases if alias.mount_accessor == accessor), None)
        return _alias(what, held)
    values: dict[str, Callable[[], Any]] = {
        "id": lambda: entity.id,
        "name": lambda: entity.name,
        "metadata": lambda: entity.metadata or {},
        "groups.names": lambda: [group.name for group in standing.groups],
        "groups.ids": lambda: [group.id for group in standing.groups],
    }
    if name in values:
        return json.dumps(values[name]())
    return _pair(name, {"metadata": entity.metadata})


def _alias(name: str, alias: Alias | None) -> str:
    metadata = alias.metadata if alias is not None else None
    custom = alias.custom_metadata if alias is not None else None
    plain: dict[str, Any] = {
        "id": alias.id if alias is not None else "",
        "name": alias.name if alias is not None else "",
        "metadata": metadata or {},
        "custom_metadata": custom or {},
    }
    if name in plain:
        return json.dumps(plain[name])
    return _pair(name, {"metadata": metadata, "custom_metadata": custom})


def _pair(name: str, maps: Mapping[str, Mapping[str, str] | None]) -> str:
    what, dot, key = name.partition(".")
    if not dot or what not in maps:
        raise TemplateError(_MISSING)
    return json.dumps((maps[what] or {}).get(key, ""))


def _groups(name: str, standing: Standing) -> str:
    if not standing.groups:
        raise TemplateError("string contains groups template directives but no groups were provided")
    how, dot, rest = name.partition(".")
    if not dot or how not in {"ids", "names"}:
        raise TemplateError("invalid groups selector")
    which, what = _selected(rest, standing.groups, by_id=how == "ids")
    if what == "id":
        return json.dumps(which.id)
    if what == "name":
        return json.dumps(which.name)
    key = what.removeprefix("metadata.")
    if not what.startswith("metadata.") or key not in (which.metadata or {}):
        raise TemplateError(_MISSING)
    return json.dumps((which.metadata or {})[key])


def _selected(rest: str, groups: Iterable[Group], *, by_id: bool) -> tuple[Group, str]:
    wanted, dot, what = rest.partition(".")
    if not dot:
        raise TemplateError("invalid groups accessor")
    for group in groups:
        if (group.id if by_id else group.name) == wanted:
            return group, what
    raise TemplateError(f'entity is not a member of group "{wanted}"')


_OFFSET = re.compile(r"now(?:\.(plus|minus)\.(.+))?\Z")


def _time(name: str, now: float) -> str:
    match = _OFFSET.match(name)
    if match is None:
        raise TemplateError("invalid time selector")
    try:
        offset = seconds(match[2]) if match[2] else 0
    except ValueError:
        raise TemplateError("invalid duration") from None
    return str(int(now) + (-offset if match[1] == "minus" else offset))
