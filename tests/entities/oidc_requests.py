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
PROVIDER = ("assignment", "scope", "client", "provider")
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
        yield from self._ties() if "key" in self._kinds else self._users()

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

    def _users(self) -> Iterator[Request]:
        """Things that others refer to, and requests of the endpoints that fail."""
        yield Request("POST", "oidc/assignment/used", {"entity_ids": ["B", "a", "a"], "group_ids": ["G"]})
        yield Request("GET", "oidc/assignment/used", what="as it was stored")
        client = {"key": "standing", "assignments": ["used"], "redirect_uris": ["https://a.test/cb"]}
        yield Request("POST", "oidc/client/user", client)
        kept = (("client", "client_id"), ("secret", "client_secret"))
        yield Request("GET", "oidc/client/user", keep=kept)
        yield Request("DELETE", "oidc/assignment/used", what="with a client")
        yield Request("DELETE", "oidc/key/standing", what="with a client")
        yield Request("POST", "oidc/key/standing", {"verification_ttl": "1h"}, "shorter than its client")
        for name in ("allow_all",):
            yield Request("POST", f"oidc/assignment/{name}", {}, "not its own")
            yield Request("DELETE", f"oidc/assignment/{name}", what="not its own")
        yield Request("POST", "oidc/scope/openid", {}, "not its own")
        yield Request("DELETE", "oidc/provider/default", what="not its own")
        yield Request("POST", "oidc/scope/other", {"template": '{"a": 1}'})
        both = {"scopes_supported": ["standing", "other"], "allowed_client_ids": ["*"]}
        yield Request("POST", "oidc/provider/both", both, "two scopes that claim the same")
        yield Request("DELETE", "oidc/scope/other", what="with a provider")
        for kind in ("client", "provider", "scope", "assignment"):
            yield Request("LIST", f"oidc/{kind}", what="in the end")
        yield Request("LIST", "oidc/provider", {"allowed_client_id": "{client}"}, "filtered")
        yield from self._authorize()
        yield from self._exchange()

    def _authorize(self) -> Iterator[Request]:
        good = {"client_id": "{client}", "redirect_uri": "https://a.test/cb", "scope": "openid", "state": "s",
                "response_type": "code"}  # fmt: skip
        at = "oidc/provider/both/authorize"
        yield Request("POST", at, good, "root has no entity")
        yield Request("GET", at, good, "root has no entity")
        yield Request("POST", "oidc/provider/nosuch/authorize", good, "no provider")
        for name in good:
            yield Request(
                "POST", at, {key: value for key, value in good.items() if key != name}, f"no {name}"
            )
        for name, value in (
            ("client_id", "x"), ("redirect_uri", "https://a.test/other"), ("scope", "profile"), ("scope", "openid x"),
            ("response_type", "token"), ("request", "x"), ("request_uri", "x"), ("code_challenge", "x"),
            ("code_challenge_method", "x"), ("max_age", 0), ("max_age", "x"),
        ):  # fmt: skip
            yield Request("POST", at, {**good, name: value}, f"{name} = {value}")
        yield Request("POST", at, good, "denied", DENIED)

    def _exchange(self) -> Iterator[Request]:
        good = {"client_id": "{client}", "client_secret": "{secret}", "grant_type": "authorization_code",
                "code": "x", "redirect_uri": "https://a.test/cb"}  # fmt: skip
        at = "oidc/provider/both/token"
        yield Request("POST", at, good, "no such code")
        yield Request("POST", at, {**good, "client_id": "{client}"}, "not allowed to use its key")
        yield Request("POST", "oidc/key/standing", {"allowed_client_ids": ["*"]})
        yield Request("POST", "oidc/provider/nosuch/token", good, "no provider")
        yield Request("POST", at, good, "no such code")
        for name in good:
            yield Request(
                "POST", at, {key: value for key, value in good.items() if key != name}, f"no {name}"
            )
        for name, value in (
            ("client_id", "x"), ("client_secret", "x"), ("grant_type", "password"), ("grant_type", "client_credentials"),
        ):  # fmt: skip
            yield Request("POST", at, {**good, name: value}, f"{name} = {value}")
        yield Request("GET", "oidc/provider/both/userinfo", what="a token of another kind")
        yield Request("GET", "oidc/provider/nosuch/userinfo", what="no provider")
        for verb in ("GET", "DELETE", "LIST"):
            yield Request(verb, at, what="another verb")

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
