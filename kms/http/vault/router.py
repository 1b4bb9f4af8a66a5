"""Routes compiled to a tree: matching costs one dictionary look-up per segment.

A literal segment beats a parameter, a parameter beats `{path...}/literal`, and that `{path...}`. The work does not grow with the
number of routes, keys or mounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kms.errors import invalid
from kms.http.vault.canonical import MAX_SEGMENT_CHARACTERS
from kms.http.vault.coerce import Plan
from kms.http.vault.route import Route
from kms.ids import check_name
from kms.operation import Operation

_VERBS = {"PUT": "POST"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A route with everything that does not depend on the request."""

    route: Route
    operation: Operation
    names: tuple[str, ...]
    checked: tuple[bool, ...]
    plan: Plan


@dataclass(slots=True)
class Match:
    """A route and the values of its path parameters. Not changed after it is made."""

    compiled: Compiled
    parameters: tuple[str, ...]

    def arguments(self) -> dict[str, str]:
        """Path parameters by name, each checked.

        Raises:
            KmsError(INVALID): a parameter is no name.
        """
        found = {}
        for name, checked, value in zip(
            self.compiled.names, self.compiled.checked, self.parameters, strict=True
        ):
            if checked:
                check_name(value, name)
            elif not self.compiled.route.opaque and _longest(value) > MAX_SEGMENT_CHARACTERS:
                raise invalid(f"invalid {name}: a segment is longer than {MAX_SEGMENT_CHARACTERS} characters")
            found[name] = value
        return found


@dataclass(slots=True)
class _Table:
    rest: bool
    tail: int = 0
    verbs: dict[str, Compiled] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    here: _Table = field(default_factory=lambda: _Table(rest=False))
    rest: dict[tuple[str, ...], _Table] = field(default_factory=dict)
    tails: dict[str, _Table] = field(default_factory=dict)  # `{path...}/tune`: the rest, but for its end


class Router:
    """The routes of one engine type."""

    def __init__(self, routes: Iterable[Route], registry: Mapping[str, Operation]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route, registry)

    def match(self, verb: str, path: str) -> Match | str:
        """Find the route for `path` below the mount.

        Returns:
            The match, "verb" when the path exists under another verb, or "path" when it does not.
        """
        slash = path.endswith("/")
        segments = path.split("/")
        if slash:
            segments.pop()
        if segments == [""]:
            segments = []
        captured: list[str] = []
        table = _walk(self._root, segments, 0, captured)
        if table is None:
            return "path"
        if slash and verb != "LIST":
            # A trailing slash is part of the name for `{path...}` and only there: `keys/a/` is not
            # another spelling of `keys/a`, and `keys/` (a folder) can only be listed.
            if not table.rest or table.tail:
                return "verb" if "LIST" in table.verbs else "path"
            captured[-1] += "/"
        compiled = table.verbs.get(_VERBS.get(verb, verb))
        return "verb" if compiled is None else Match(compiled, tuple(captured))

    def _add(self, route: Route, registry: Mapping[str, Operation]) -> None:
        if route.operation not in registry:
            raise ValueError(f"route {route.verb} {route.pattern} names no operation: {route.operation}")
        node = self._root
        names: list[str] = []
        segments = [s for s in route.pattern.strip("/").split("/") if s]
        rest = next((i for i, segment in enumerate(segments) if segment.endswith("...}")), len(segments))
        for segment in segments[:rest]:
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literal.setdefault(segment, _Node())
        table = node.here
        if rest < len(segments):
            tail = tuple(segments[rest + 1 :])
            if any(segment.startswith("{") for segment in tail):
                raise ValueError(f"route {route.pattern}: only literals may follow {{name...}}")
            names.append(segments[rest].strip("{}").removesuffix("..."))
            table = node.rest.setdefault(tail, _Table(rest=True, tail=len(tail)))
            # Longest tail first, so that `{path...}/tune` is tried before `{path...}`.
            node.rest = dict(sorted(node.rest.items(), key=lambda item: -len(item[0])))
        verb = _VERBS.get(route.verb, route.verb)
        if verb in table.verbs:
            raise ValueError(f"route {route.verb} {route.pattern} is declared twice")
        operation = registry[route.operation]
        checked = tuple(
            name not in route.free and not (table.rest and index == len(names) - 1)
            for index, name in enumerate(names)
        )
        table.verbs[verb] = Compiled(route, operation, tuple(names), checked, Plan(operation))


def _longest(value: str) -> int:
    return max(map(len, value.split("/")))


def _walk(node: _Node, segments: list[str], at: int, captured: list[str]) -> _Table | None:
    if at == len(segments):
        return node.here if node.here.verbs else None
    child = node.literal.get(segments[at])
    if child is not None:
        found = _walk(child, segments, at + 1, captured)
        if found is not None:
            return found
    if node.parameter is not None and segments[at]:
        captured.append(segments[at])
        found = _walk(node.parameter, segments, at + 1, captured)
        if found is not None:
            return found
        captured.pop()
    if node.tails and len(segments) - at > 1 and segments[-1] in node.tails:
        captured.append("/".join(segments[at:-1]))
        return node.tails[segments[-1]]
    for tail, table in node.rest.items():
        end = len(segments) - len(tail)
        if end > at and tuple(segments[end:]) == tail:
            captured.append("/".join(segments[at:end]))
            return table
    return None
