"""Requests about entities, aliases and groups: each declared parameter wrong in turn, and stories of several."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tests.differential.generate import VERBS, WRONG, Declared, declared
from tests.differential.sides import DENIED, Request

PATHS = Path(__file__).parent / "paths.txt"
WRONG_HERE: dict[str, dict[str, Any]] = {
    **WRONG,
    "object:kvpairs": {
        "text": "junk", "pair": "a=b", "pairs": ["a=b", "c=d=e"], "no pairs": ["junk"], "number": 5, "empty": {},
        "deep": {"a": {"b": 1}}, "lists": {"a": ["b"]}, "numbers": {"a": 5}, "flags": {"a": True}, "nulls": {"a": None},
        "null": None,
    },
    "[string]": {
        "text": "one", "two": "one,two", "list": ["one", "ONE", "two"], "unknown": ["nosuch"], "root": ["root"],
        "ROOT": "ROOT", "number": 5, "null": None, "empty": [], "blank": [""],
    },
}  # fmt: skip
MINIMAL: dict[str, dict[str, Any]] = {
    "entity": {"name": "new-{n}"},
    "group": {"name": "new-{n}"},
    "entity-alias": {"name": "new-{n}", "mount_accessor": "{up}"},
    "alias": {"name": "new-{n}", "mount_accessor": "{up}"},
    "group-alias": {"name": "new-{n}", "mount_accessor": "{up}"},
    "group-alias/id/{id}": {"name": "new-{n}", "mount_accessor": "{up}"},
    "entity/batch-delete": {"entity_ids": ["{doomed}"]},
    "entity/merge": {"to_entity_id": "{alice}", "from_entity_ids": ["{doomed}"]},
    "lookup/entity": {"id": "{alice}"},
    "lookup/group": {"id": "{team}"},
    "persona": {"name": "new-{n}"},
}
# Which standing thing a path with {id} or {name} names; DELETE and changes get a new one each time.
STANDING = {
    "entity": ("alice", "Alice"),
    "group": ("team", "Team"),
    "entity-alias": ("alias", ""),
    "alias": ("alias", ""),
    "persona": ("alias", ""),
    "group-alias": ("group alias", ""),
}
VALID: dict[str, tuple[Any, ...]] = {
    "name": ("ALICE", "other", "Team"),
    "policies": (["p1", "p2"], "p3,p4"),
    "disabled": (True, False),
    "type": ("internal", "external", "bogus", ""),
    "member_entity_ids": (["{alice}"], ["{alice}", "{alice}", "{bob}"], ["{team}"]),
    "member_group_ids": (["{team}"], ["{alice}"], ["{outer}"]),
    "mount_accessor": ("{up2}", "{token}", "bogus"),
    "canonical_id": ("{bob}", "{alice}", "{team}", "{external}", "nosuch"),
    "entity_id": ("{bob}", "nosuch"),
    "custom_metadata": ({"a": "b"},),
    "metadata": ({"a": "b"},),
    "id": ("{alice}", "{bob}", "{team}", "{alias}", "nosuch"),
    "alias_id": ("{alias}", "{group alias}", "nosuch"),
    "alias_name": ("alice-up", "nosuch"),
    "alias_mount_accessor": ("{up}", "nosuch"),
    "to_entity_id": ("{bob}", "nosuch"),
    "from_entity_ids": (["{alice}"], ["nosuch"], ["{bob}", "nosuch"]),
    "conflicting_alias_ids_to_keep": (["nosuch"],),
    "force": (True,),
    "entity_ids": (["nosuch"], ["{doomed}", "nosuch"]),
}


class Requests:
    """All requests, in order."""

    def __init__(self) -> None:
        self._fresh = count(1)

    def setup(self) -> Iterator[Request]:
        """Before there is anything; then what stays."""
        for path in (
            "entity/id",
            "entity/name",
            "group/id",
            "group/name",
            "entity-alias/id",
            "group-alias/id",
        ):
            yield Request("LIST", path, what="before there is one")
        yield from self._standing()

    def _standing(self) -> Iterator[Request]:
        made = {"metadata": {"team": "blue"}, "policies": ["p1"]}
        yield Request("POST", "entity", {"name": "Alice", **made}, keep=(("alice", "id"),))
        yield Request("POST", "entity", {"name": "bob"}, keep=(("bob", "id"),))
        alias = {"name": "alice-up", "mount_accessor": "{up}", "canonical_id": "{alice}"}
        yield Request("POST", "entity-alias", alias, keep=(("alias", "id"),))
        group = {"name": "Team", "policies": ["p2"], "member_entity_ids": ["{alice}"], "metadata": {"a": "b"}}
        yield Request("POST", "group", group, keep=(("team", "id"),))
        yield Request(
            "POST", "group", {"name": "outer", "member_group_ids": ["{team}"]}, keep=(("outer", "id"),)
        )
        yield Request("POST", "group", {"name": "ext", "type": "external"}, keep=(("external", "id"),))
        alias = {"name": "devs", "mount_accessor": "{up}", "canonical_id": "{external}"}
        yield Request("POST", "group-alias", alias, keep=(("group alias", "id"),))

    def all(self) -> Iterator[Request]:
        """Everything."""
        yield from self.setup()
        yield from self._looks("at first")
        for path in declared(PATHS, "identity"):
            for verb in path.verbs:
                yield from self._verb(path, verb)
            for verb in VERBS:
                if verb not in path.verbs:
                    yield Request(verb, self._fill(path.path), None, "another verb")
        yield from self._nesting()
        yield from self._moving()
        yield from self._merging()

    def _looks(self, what: str) -> Iterator[Request]:
        for path in ("entity/id/{alice}", "entity/name/Alice", "group/id/{team}", "group/id/{outer}",
                     "group/name/Team", "entity-alias/id/{alias}", "group-alias/id/{group alias}",
                     "group/id/{external}"):  # fmt: skip
            yield Request("GET", path, what=what)

    def _verb(self, path: Declared, verb: str) -> Iterator[Request]:
        body = MINIMAL.get(path.path, {}) if verb == "POST" else None
        yield from self._one(path, verb, body, "denied", DENIED)
        if "{" in path.path:
            yield Request(verb, re.sub(r"{\w+}", "nosuch", path.path), self._body(body, 0), "an unknown name")
            if verb == "POST" and "/name/" in path.path:
                yield Request("DELETE", re.sub(r"{\w+}", "nosuch", path.path), what="which was made")
        yield from self._one(path, verb, body, "minimal")
        if verb != "POST":
            return
        assert body is not None
        for name in body:
            yield from self._one(
                path, verb, {key: value for key, value in body.items() if key != name}, f"without {name}"
            )
        yield from self._one(path, verb, {**body, "bogus": 1}, "an unknown parameter")
        for name, type_ in path.fields:
            for value in VALID.get(name, ()):
                yield from self._one(path, verb, {**body, name: value}, f"{name} = {value}")
            for what, value in WRONG_HERE[type_].items():
                yield from self._one(path, verb, {**body, name: value}, f"{name} is {what}")

    def _one(
        self, path: Declared, verb: str, body: dict[str, Any] | None, what: str, token: str = ""
    ) -> Iterator[Request]:
        number = next(self._fresh)
        kind = path.path.partition("/")[0]
        where, body = path.path, self._body(body, number)
        if path.path in {"entity/merge", "entity/batch-delete"} or (verb != "GET" and "{" in where):
            yield from self._doomed(kind, number)
            where = where.replace("{id}", "{doomed}").replace("{name}", f"doomed-{number}")
        yield Request(verb, self._fill(where), body, what, token)
        if verb == "POST" and not token:
            yield Request("GET", self._fill(where if "{" in path.path else f"{kind}/name/new-{number}"),
                          what=f"after {what}")  # fmt: skip
        if verb == "POST" and "{" not in path.path and kind in {"entity", "group", "persona"}:
            # What was changed under a standing name is put back.
            yield Request("POST", "entity/id/{alice}", {"name": "Alice", "disabled": False, "policies": ["p1"],
                                                        "metadata": {"team": "blue"}}, "back")  # fmt: skip
            yield Request("POST", "entity/id/{bob}", {"name": "bob", "disabled": False}, "back")
            yield Request("POST", "group/id/{team}", {"name": "Team", "policies": ["p2"], "metadata": {"a": "b"},
                                                      "member_entity_ids": ["{alice}"]}, "back")  # fmt: skip

    def _doomed(self, kind: str, number: int) -> Iterator[Request]:
        keep = (("doomed", "id"),)
        what = "for the next"
        if kind in {"entity", "group"}:
            yield Request("POST", kind, {"name": f"doomed-{number}"}, what, keep=keep)
        else:
            body = {"name": f"doomed-{number}", "mount_accessor": "{up}"}
            path = "group-alias" if kind == "group-alias" else "entity-alias"
            yield Request("POST", path, body, what, keep=keep)

    @staticmethod
    def _body(body: dict[str, Any] | None, number: int) -> dict[str, Any] | None:
        if body is None:
            return None
        return {
            name: value.replace("{n}", str(number)) if isinstance(value, str) else value
            for name, value in body.items()
        }

    @staticmethod
    def _fill(path: str) -> str:
        name, shown = STANDING.get(path.partition("/")[0], ("", ""))
        return path.replace("{id}", f"{{{name}}}").replace("{name}", shown)

    def _nesting(self) -> Iterator[Request]:
        for name, below in (("a", []), ("b", ["{in-a}"]), ("c", ["{in-b}"])):
            body = {"name": f"in-{name}", "member_group_ids": below, "policies": [f"in-{name}"]}
            yield Request("POST", "group", body, keep=((f"in-{name}", "id"),))
        for what, members in (
            ("itself", ["{in-a}"]),
            ("a ring of two", ["{in-b}"]),
            ("a ring of three", ["{in-c}"]),
        ):
            yield Request("POST", "group/id/{in-a}", {"member_group_ids": members}, what)
        yield Request("POST", "group/id/{in-a}", {"member_entity_ids": ["{bob}"]}, "a member deep below")
        yield Request("GET", "entity/id/{bob}", what="inherits")
        yield Request("LIST", "group/id", what="nested")
        yield Request("DELETE", "group/id/{in-b}")
        yield Request("GET", "entity/id/{bob}", what="inherits no longer")
        yield Request("GET", "group/id/{in-c}", what="lost its member")

    def _moving(self) -> Iterator[Request]:
        for number, accessor in ((1, "{up}"), (2, "{up2}")):
            yield Request(
                "POST",
                "entity-alias",
                {"name": f"mover-{number}", "mount_accessor": accessor},
                keep=((f"moved-{number}", "id"), (f"mover-{number}", "canonical_id")),
            )
        alias = "entity-alias/id/{moved-1}"
        for what, body in (
            ("nothing", {}),
            ("to one that has another mount", {"canonical_id": "{mover-2}"}),
            ("to one that has this mount", {"canonical_id": "{alice}"}),
            ("to nobody", {"canonical_id": "nosuch"}),
            ("another case", {"name": "MOVER-1"}),
            ("a name that is taken", {"name": "alice-up"}),
            ("another mount, which it has", {"mount_accessor": "{up2}"}),
            ("notes", {"custom_metadata": {"a": "b"}}),
            ("the same notes", {"custom_metadata": {"a": "b"}}),
        ):
            yield Request("POST", alias, body, what)
            yield Request("GET", alias, what=f"after {what}")
        yield Request("GET", "entity/id/{mover-2}", what="has both")

    def _merging(self) -> Iterator[Request]:
        for number, accessor in ((1, "{up}"), (2, "{up2}"), (3, "{up}")):
            alias = {"name": f"merged-{number}", "mount_accessor": accessor}
            kept = ((f"m{number}", "canonical_id"), (f"m{number} alias", "id"))
            yield Request("POST", "entity-alias", alias, keep=kept)
        group = {"name": "of-merged", "member_entity_ids": ["{m2}"], "policies": ["px"]}
        yield Request("POST", "group", group, keep=(("of-merged", "id"),))
        merge = {"to_entity_id": "{m1}", "from_entity_ids": ["{m2}"]}
        yield Request("POST", "entity/merge", merge, "apart")
        for path in (
            "entity/id/{m1}",
            "entity/id/{m2}",
            "group/id/{of-merged}",
            "entity-alias/id/{m2 alias}",
        ):
            yield Request("GET", path, what="after a merge")
        clash = {"to_entity_id": "{m1}", "from_entity_ids": ["{m3}"]}
        yield Request("POST", "entity/merge", clash, "a clash")
        yield Request(
            "POST", "entity/merge", {**clash, "conflicting_alias_ids_to_keep": ["nosuch"]}, "a clash"
        )
        kept_id = {"conflicting_alias_ids_to_keep": ["{m3 alias}"]}
        yield Request("POST", "entity/merge", {**clash, **kept_id}, "a clash, decided")
        yield Request("GET", "entity/id/{m1}", what="after a decided clash")
        yield Request("GET", "entity-alias/id/{m3 alias}", what="after a decided clash")
