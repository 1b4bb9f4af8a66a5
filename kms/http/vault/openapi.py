"""The OpenAPI description of what is really there: made of the routes and the operations that they stand for.

Nothing in it is written by hand for one path: verbs, parameters, their types, who may call, all come from the tables
that the door and the pipeline obey, so it cannot say something else than they do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kms.http.vault.route import Route
from kms.operation import WHOLE_BODY, Caller, Effect, Field, Operation, Type

VERSION: Final = "3.0.2"
_SLOT = re.compile(r"\{([a-z_]+)(?:\.\.\.)?\}")
_WORD = re.compile(r"[^a-zA-Z0-9]+")
_METHODS: Final = {
    "GET": "get",
    "HEAD": "head",
    "LIST": "get",
    "POST": "post",
    "DELETE": "delete",
    "PATCH": "patch",
}
_WRITES: Final = frozenset({"post", "patch"})
_STRINGS: Final = {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}
_TYPES: Final[Mapping[Type, Mapping[str, Any]]] = {
    Type.STRING: {"type": "string"},
    Type.INT: {"type": "integer", "format": "int64"},
    Type.BOOL: {"type": "boolean"},
    Type.SECONDS: {
        "anyOf": [{"type": "integer", "format": "seconds"}, {"type": "string", "format": "duration"}]
    },
    Type.STRINGS: _STRINGS,
    Type.MAP: {"type": "object"},
    Type.ITEMS: {"type": "array", "items": {"type": "object"}},
    Type.ANY: {},
}
_REFUSED: Final = {"$ref": "#/components/responses/Refused"}
_UNAVAILABLE: Final = {"$ref": "#/components/responses/Unavailable"}


@dataclass(frozen=True)
class Mounted:
    """Where an engine's routes are found.

    Args:
        path: of the mount, with its last slash.
        engine: its type.
    """

    path: str
    engine: str


def describe(
    mounts: Iterable[Mounted],
    routes: Mapping[str, tuple[Route, ...]],
    registry: Mapping[str, Operation],
    version: str,
    *,
    generic: bool = False,
) -> dict[str, Any]:
    """The document.

    Args:
        mounts: what is described, each with its own paths.
        routes: engine type -> its routes.
        registry: operations by name.
        version: of the API.
        generic: one `{..._mount_path}` per engine instead of the paths of its mounts.
    """
    paths: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    seen: set[str] = set()
    for mount in sorted(mounts, key=lambda mount: mount.path):
        prefix, parameter = mount.path, None
        if generic and mount.engine != "system":
            if mount.engine in seen:
                continue
            seen.add(mount.engine)
            name = f"{mount.engine.replace('-', '_')}_mount_path"
            auth = "auth/" if mount.path.startswith("auth/") else ""
            parameter = {**_parameter(Field(name), "path"), "description": "Path of the mount"}
            prefix = f"{auth}{{{name}}}/"
        _add(paths, names, prefix, parameter, routes.get(mount.engine, ()), registry)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Keystead API",
            "description": "The Vault HTTP API of Keystead. All API routes are prefixed with `/v1/`.",
            "version": version,
            "license": {"name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": [{"url": "/v1"}],
        "paths": dict(sorted(paths.items())),
        "components": _COMPONENTS,
        "security": [{"token": []}],
    }


def _add(
    paths: dict[str, dict[str, Any]],
    names: set[str],
    prefix: str,
    parameter: dict[str, Any] | None,
    routes: Iterable[Route],
    registry: Mapping[str, Operation],
) -> None:
    templates: dict[str, str] = {}
    for route in sorted(routes, key=lambda route: (_SLOT.sub("{}", route.pattern), route.verb == "LIST")):
        operation = registry[route.operation]
        pattern = _SLOT.sub(lambda slot: f"{{{slot[1]}}}", route.pattern)
        # Two spellings of one template would be one path described twice.
        template = templates.setdefault(_SLOT.sub("{}", pattern), pattern)
        item = paths.setdefault(f"/{prefix}{template}".rstrip("/"), {})
        slots = _SLOT.findall(template)
        inherited = ([parameter] if parameter else []) + [_parameter(Field(slot), "path") for slot in slots]
        if inherited:
            item["parameters"] = inherited
        if operation.sudo:
            item["x-vault-sudo"] = True
        if operation.caller is not Caller.TOKEN:
            item["x-vault-unauthenticated"] = True
        if operation.exists is not None:
            item["x-vault-createSupported"] = True
        method = _METHODS[route.verb]
        if method == "get" and "get" in item:
            # The list of what can also be read: a GET with `list`.
            item["get"].setdefault("parameters", []).append(_listing(required=False))
            item["get"]["responses"] |= _responses(route, operation)
            continue
        described = _described(route, operation, frozenset(_SLOT.findall(pattern)))
        described["operationId"] = _unique(names, prefix, template, route.verb)
        item[method] = described


def _described(route: Route, operation: Operation, slots: frozenset[str]) -> dict[str, Any]:
    method = _METHODS[route.verb]
    described: dict[str, Any] = {"summary": operation.name, "tags": [operation.name.partition(".")[0]]}
    fields = [field for field in operation.fields if field.name not in slots]
    parameters = []
    if method in _WRITES:
        described["requestBody"] = _body(route, fields)
    else:
        parameters = [_parameter(field, "query") for field in fields if field.name != WHOLE_BODY]
    if route.verb == "LIST":
        parameters.append(_listing(required=True))
    if parameters:
        described["parameters"] = parameters
    if operation.caller is not Caller.TOKEN:
        described["security"] = [{}, {"token": []}]
    described["responses"] = _responses(route, operation)
    return described


def _body(route: Route, fields: list[Field]) -> dict[str, Any]:
    if route.accepts or route.text:
        kind = route.accepts or "application/octet-stream"
        return {"required": True, "content": {kind: {"schema": {"type": "string", "format": "binary"}}}}
    schema: dict[str, Any] = {"type": "object"}
    named = [field for field in fields if field.name != WHOLE_BODY]
    if named:
        schema["properties"] = {field.name: _schema(field) for field in named}
    required = [field.name for field in named if field.required]
    if required:
        schema["required"] = required
    kind = "application/merge-patch+json" if route.verb == "PATCH" else "application/json"
    return {"required": bool(required), "content": {kind: {"schema": schema}}}


def _schema(field: Field) -> dict[str, Any]:
    schema = dict(_TYPES[field.type])
    if isinstance(field.default, str | int | bool) and field.default != "" and "type" in schema:
        schema["default"] = field.default
    return schema


def _parameter(field: Field, where: str) -> dict[str, Any]:
    schema = _schema(field)
    if where == "query" and field.type in (Type.MAP, Type.ITEMS, Type.ANY, Type.STRINGS):
        schema = {"type": "string"}
    required = where == "path" or field.required
    return {"name": field.name, "in": where, "required": required, "schema": schema}


def _listing(*, required: bool) -> dict[str, Any]:
    return {
        "name": "list",
        "in": "query",
        "description": "Must be set to `true`" if required else "Return a list if `true`",
        "required": required,
        "schema": {"type": "string", "enum": ["true"]},
    }


def _responses(route: Route, operation: Operation) -> dict[str, Any]:
    """Every status that the operation can answer with."""
    done = {"description": "OK", "content": {"*/*": {"schema": {}}}}
    responses: dict[str, Any] = {str(route.status): done}
    if route.render is not None or operation.caller is not Caller.TOKEN:
        responses["2XX"] = done
    else:
        responses["200"] = done
    if not route.envelope:
        responses["204"] = {"description": "OK, and nothing to tell"}
    if operation.effect is Effect.STATE or operation.effect is Effect.EXTERNAL:
        responses["202"] = {"description": "Begun, or waiting for the consent of others"}
    return (
        responses | {"4XX": _REFUSED, "503": _UNAVAILABLE} | ({"501": _UNAVAILABLE} if route.render else {})
    )


def _unique(names: set[str], prefix: str, template: str, verb: str) -> str:
    words = _WORD.sub("-", f"{verb.lower()}-{prefix}{template}").strip("-")
    name, number = words, 2
    while name in names:
        name, number = f"{words}-{number}", number + 1
    names.add(name)
    return name


_ERRORS: Final = {
    "type": "object",
    "properties": {"errors": {"type": "array", "items": {"type": "string"}}, "data": {}},
}
_COMPONENTS: Final[Mapping[str, Any]] = {
    "schemas": {"Errors": _ERRORS},
    "responses": {
        "Refused": {
            "description": "Refused: what is wrong, or not there, or not allowed",
            "content": {"*/*": {"schema": {}}},
        },
        "Unavailable": {
            "description": "Sealed, or a part that is needed does not answer",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Errors"}}},
        },
    },
    "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Vault-Token"}},
}
