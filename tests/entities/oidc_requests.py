"""Requests about identity tokens: each declared parameter wrong in turn, and stories of several."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tests.differential.generate import VERBS, Declared, declared
from tests.differential.sides import DENIED, Request
from tests.entities.requests import WRONG_HERE

PATHS = Path(__file__).parent / "oidc_paths.txt"
TEMPLATES = (
    '{"name": {{identity.entity.name}}, "groups": {{identity.entity.groups.names}}}',
    "eyJhIjogMX0=",
    "{{identity.entity.name}}",
    '{"a": {{identity.entity.bogus}}}',
    '{"a": {{bogus}}}',
    '{"a": {{identity.entity.metadata.team}}, "m": {{identity.entity.metadata}}}',
    '{"a": {{identity.entity.aliases.nosuch.name}}}',
    '{"a": {{identity.entity.aliases.nosuch}}}',
    '{"a": {{identity.groups.names.x.id}}}',
    '{"t": {{time.now}}, "u": {{time.now.plus.1h}}, "v": {{time.now.minus.5m}}}',
    '{"sub": "x"}',
    '{"iss": "x"}',
    "{{identity.entity.name",
    "identity.entity.name}}",
    "[]",
    "5",
    "{",
)
MINIMAL: dict[str, dict[str, Any]] = {
    "oidc/config": {"issuer": "https://issuer.example.test"},
    "oidc/introspect": {"token": "x"},
    "oidc/key/{name}": {},
    "oidc/key/{name}/rotate": {},
    "oidc/role/{name}": {"key": "standing"},
    "oidc/assignment/{name}": {},
    "oidc/scope/{name}": {},
    "oidc/client/{name}": {"key": "standing"},
    "oidc/provider/{name}": {},
}
VALID: dict[str, tuple[Any, ...]] = {
    "issuer": (
        "http://a.test:8200",
        "https://a.test/",
        "https://a.test/x",
        "ftp://a.test",
        "a.test",
        "https://",
    ),
    "algorithm": ("RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "none", "rs256"),
    "rotation_period": (59, 60, "2h"),
    "verification_ttl": (0, 60, "9999h", "240h"),
    "allowed_client_ids": (["*"], ["a", "b"]),
    "key": ("default", "nosuch", "standing", "fresh"),
    "template": TEMPLATES,
    "ttl": (60, "9999h", "24h"),
    "client_id": ("mine",),
    "entity_ids": (["x"],),
    "group_ids": (["x"],),
    "description": ("text",),
    "assignments": (["allow_all"], ["nosuch"]),
    "client_type": ("public", "confidential", "bogus"),
    "redirect_uris": (["https://a.test/cb", "https://a.test/cb"],),
    "id_token_ttl": (60, "9999h"),
    "access_token_ttl": (60, "9999h"),
    "authorization_code": (True, False),
    "client_credentials": (True, False),
    "scopes_supported": (["nosuch"], ["standing"]),
}
# What only a browser, or a client, has to do with: another module asks it.
ELSEWHERE = ("authorize", "token", "userinfo", ".well-known")
NAMED = ("oidc/key/", "oidc/role/", "oidc/assignment/", "oidc/scope/", "oidc/client/", "oidc/provider/")


class Requests:
    """All requests, in order."""

    def __init__(self, kinds: tuple[str, ...] = ("config", "key", "role", "introspect")) -> None:
        self._kinds = kinds
        self._fresh = count(1)

    def all(self) -> Iterator[Request]:
        """Everything."""
        yield from self._first()
        for path in self.paths():
            for verb in path.verbs:
                yield from self._verb(path, verb)
            for verb in VERBS:
                if verb not in path.verbs:
                    yield Request(verb, path.path.replace("{name}", "standing"), None, "another verb")
        if "key" in self._kinds:
            yield from self._ties()

    def paths(self) -> list[Declared]:
        """Those that are asked here."""
        return [
            path
            for path in declared(PATHS, "identity")
            if path.path.split("/")[1] in self._kinds
            and (path.path.endswith("}/rotate") or not path.path.endswith(ELSEWHERE))
            and ".well-known" not in path.path
        ]

    def _first(self) -> Iterator[Request]:
        for kind in self._kinds:
            yield Request("LIST", f"oidc/{kind}", what="before there is one")
        yield Request("GET", "oidc/config", what="before it was written")
        for name in ("default", "nosuch"):
            for kind in self._kinds:
                yield Request("GET", f"oidc/{kind}/{name}", what="before there is one")
        # Elliptic curves, so that nobody waits for RSA keys.
        yield Request("POST", "oidc/key/standing", {"algorithm": "ES256", "allowed_client_ids": ["a"]})
        yield Request("GET", "oidc/key/standing")
        if "role" in self._kinds:
            yield Request("POST", "oidc/role/standing", {"key": "standing"})
        if "scope" in self._kinds:
            yield Request("POST", "oidc/scope/standing", {"template": '{"a": {{identity.entity.name}}}'})

    def _verb(self, path: Declared, verb: str) -> Iterator[Request]:
        body = MINIMAL[path.path] if verb == "POST" else None
        yield from self._one(path, verb, body, "denied", DENIED)
        if "{" in path.path and verb != "POST":
            yield Request(verb, re.sub(r"{\w+}", "nosuch", path.path), body, "an unknown name")
        yield from self._one(path, verb, body, "minimal")
        if verb != "POST":
            return
        assert body is not None
        for name in body:
            yield from self._one(path, verb, {k: v for k, v in body.items() if k != name}, f"without {name}")
        yield from self._one(path, verb, {**body, "bogus": 1}, "an unknown parameter")
        for name, type_ in path.fields:
            for value in VALID.get(name, ()):
                yield from self._one(path, verb, {**body, name: value}, f"{name} = {value}")
                if path.path.startswith(NAMED) and path.path.endswith("{name}"):
                    yield from self._one(path, verb, {name: value}, f"{name} becomes {value}", again=True)
            for what, value in WRONG_HERE[type_].items():
                yield from self._one(path, verb, {**body, name: value}, f"{name} is {what}")

    def _one(
        self,
        path: Declared,
        verb: str,
        body: dict[str, Any] | None,
        what: str,
        token: str = "",
        *,
        again: bool = False,
    ) -> Iterator[Request]:
        number = next(self._fresh)
        where = path.path.replace("{name}", f"n{number}")
        of_key = path.path == "oidc/key/{name}"
        if of_key and body is not None and "algorithm" not in body and not again:
            body = {"algorithm": "ES256", **body}
        if "{" in path.path and (verb != "POST" or again or path.path.endswith("/rotate")) and not token:
            fields = {"algorithm": "ES256"} if path.path.startswith("oidc/key/") else MINIMAL[path.path]
            yield Request("POST", where.removesuffix("/rotate"), fields, "for the next")
        yield Request(verb, where, body, what, token)
        if verb == "POST" and not token and path.path != "oidc/introspect":
            yield Request("GET", where.removesuffix("/rotate"), what=f"after {what}")
        if verb == "POST" and "{name}" in path.path and not token:
            yield Request("DELETE", where.removesuffix("/rotate"), what=f"after {what}")

    def _ties(self) -> Iterator[Request]:
        """A key, and what refers to it."""
        yield Request("POST", "oidc/key/tied", {"algorithm": "ES256", "verification_ttl": "2h"})
        yield Request("POST", "oidc/role/tied", {"key": "tied"}, "longer than its key")
        yield Request("POST", "oidc/role/tied", {"key": "tied", "ttl": "1h"})
        yield Request("POST", "oidc/key/tied", {"verification_ttl": "30m"}, "shorter than its role")
        yield Request("DELETE", "oidc/key/tied", what="with a role")
        yield Request("DELETE", "oidc/key/default", what="the default")
        yield Request("POST", "oidc/key/nosuch/rotate", {}, "no key")
        yield Request("GET", "oidc/token/tied", what="not allowed to use its key")
        yield Request("POST", "oidc/key/tied", {"allowed_client_ids": "*"})
        yield Request("GET", "oidc/token/tied", what="root has no entity")
        yield Request("GET", "oidc/token/nosuch", what="no role")
        yield Request("DELETE", "oidc/role/tied")
        yield Request("DELETE", "oidc/key/tied", what="without a role")
