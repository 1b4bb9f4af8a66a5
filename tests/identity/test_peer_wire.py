"""The same requests to the real server and to ours; statuses, texts and fields are laid side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.identity.wire import Server
from tests.policy.peer import Peer

Caller = Callable[..., tuple[int, Any]]

POLICIES = {
    "cre": 'path "auth/token/*" { capabilities = ["create", "update", "read", "list", "delete"] }\n'
    'path "a" { capabilities = ["read"] }\npath "sys/capabilities*" { capabilities = ["update"] }',
    "sud": 'path "auth/token/*" { capabilities = ["create", "update", "read", "list", "delete", "sudo"] }',
    "foo": 'path "a" { capabilities = ["read"] }',
}
ROLES: dict[str, dict[str, Any]] = {
    "any": {},
    "lists": {"allowed_policies": "foo,Bar", "token_num_uses": 9, "orphan": True, "path_suffix": "abc"},
    "globs": {"allowed_policies_glob": ["app-*"]},
    "not": {"disallowed_policies": ["foo"], "token_explicit_max_ttl": 100, "renewable": False},
    "bare": {"allowed_policies": ["foo"], "token_no_default_policy": True, "token_type": "service"},
    "period": {"token_period": "1h", "explicit_max_ttl": "3h"},
}
C = "auth/token/create"

PATHS: tuple[dict[str, Any], ...] = (
    {"paths": ["a", "b", "/a"]},
    {"path": "a"},
    {"paths": "a,b"},
    {"paths": ["a"]},
    {},
    {"paths": []},
)
BY_ROLE: tuple[dict[str, Any], ...] = (
    {},
    {"policies": ["bar"]},
    {"policies": ["app-x"]},
    {"policies": ["root"]},
    {"num_uses": 3},
)

# (caller, method, path, body); the callers are tokens with the policies of that name.
REQUESTS: list[tuple[str, str, str, Any]] = [
    *(
        (caller, "POST", C, body)
        for caller in ("cre", "sud", "root")
        for body in (
            {},
            {"policies": ["cre"]},
            {"policies": ["default"]},
            {"policies": ["foo"]},
            {"policies": ["Foo", "foo"]},
            {"policies": ["other"]},
            {"policies": ["root"]},
            {"policies": ["ROOT"]},
            {"policies": ["root", "foo"]},
            {"policies": ["response-wrapping"]},
            {"no_default_policy": True},
            {"policies": ["default", "cre"], "no_default_policy": True},
            {"no_parent": True},
            {"period": "1h"},
            {"period": "1000h", "policies": ["foo", "cre"]},
            {"id": "custom-{caller}", "policies": ["default"]},
            {"id": "hvs.abc", "policies": ["default"]},
            {"id": "s.abc", "policies": ["default"]},
            {"id": "a.b", "policies": ["default"]},
            {"ttl": "1h", "explicit_max_ttl": "30m", "policies": ["default"]},
            {"ttl": "10000h", "policies": ["default"]},
            {"ttl": 90, "renewable": False, "policies": ["default"]},
            {"lease": "90s", "policies": ["default"]},
            {"explicit_max_ttl": "1h"},
            {"num_uses": -1},
            {"num_uses": "3", "policies": ["default"], "meta": {"a": "b"}, "display_name": "Hi there!!"},
            {"num_uses": 3},
            {"type": "service"},
            {"type": "weird", "policies": ["default"]},
            {"entity_alias": "x", "policies": ["default"]},
            {"policies": ["default"], "meta": {"a": 1}},
            {"policies": ["default"], "meta": "a=b"},
            {"policies": [""]},
            {"policies": ["default"], "display_name": "-"},
            {"policies": ["default"], "period": "1h", "explicit_max_ttl": "30m"},
        )
    ),
    *((caller, "POST", "auth/token/create-orphan", {}) for caller in ("cre", "sud", "root", "foo")),
    *(
        (caller, "POST", f"{C}/{role}", body)
        for caller in ("cre", "root")
        for role in (*ROLES, "nosuch")
        for body in BY_ROLE
    ),
    ("cre", "POST", f"{C}/period", {"period": "2h", "explicit_max_ttl": "5h"}),
    *(("root", "GET", f"auth/token/roles/{role}", None) for role in (*ROLES, "nosuch")),
    ("root", "LIST", "auth/token/roles", None),
    ("root", "POST", "auth/token/roles/bad", {"token_type": "weird"}),
    ("root", "POST", "auth/token/roles/bad", {"path_suffix": "../x"}),
    ("root", "POST", "auth/token/roles/bad", {"token_num_uses": -1}),
    ("root", "DELETE", "auth/token/roles/nosuch", None),
    ("root", "POST", "auth/token/lookup", {"token": "nope"}),
    ("root", "POST", "auth/token/lookup", {}),
    ("root", "GET", "auth/token/lookup-self", None),
    ("cre", "GET", "auth/token/lookup-self", None),
    ("cre", "POST", "auth/token/lookup-self", {}),
    ("root", "GET", "auth/token/accessors", None),
    ("cre", "LIST", "auth/token/accessors", None),
    ("root", "POST", "auth/token/renew", {"token": "nope"}),
    ("root", "POST", "auth/token/renew", {}),
    ("root", "POST", "auth/token/renew-self", {}),
    ("cre", "POST", "auth/token/renew-self", {"increment": 60}),
    ("cre", "POST", "auth/token/renew-self", {}),
    ("cre", "POST", "auth/token/renew-self", {"increment": 6_000_000}),
    ("root", "POST", "auth/token/revoke", {"token": "nope"}),
    ("root", "POST", "auth/token/revoke", {}),
    ("root", "POST", "auth/token/revoke-accessor", {"accessor": "nope"}),
    ("cre", "POST", "auth/token/revoke-orphan", {"token": "nope"}),
    ("root", "POST", "auth/token/revoke-orphan", {"token": "nope"}),
    ("root", "POST", "auth/token/revoke-orphan", {}),
    ("root", "POST", "auth/token/tidy", {}),
    ("none", "GET", "auth/token/lookup-self", None),
    ("nope", "GET", "auth/token/lookup-self", None),
    ("root", "GET", "sys/policies/acl/FOO", None),
    ("root", "GET", "sys/policies/acl/nosuch", None),
    ("root", "GET", "sys/policies/acl/root", None),
    ("root", "LIST", "sys/policies/acl", None),
    ("root", "GET", "sys/policies/acl", None),
    ("root", "GET", "sys/policy", None),
    ("root", "LIST", "sys/policy", None),
    ("root", "GET", "sys/policy/foo", None),
    ("root", "PUT", "sys/policies/acl/root", {"policy": POLICIES["foo"]}),
    ("root", "PUT", "sys/policies/acl/response-wrapping", {"policy": POLICIES["foo"]}),
    ("root", "PUT", "sys/policies/acl/foo", {}),
    ("root", "PUT", "sys/policies/acl/foo", {"policy": ""}),
    ("root", "PUT", "sys/policy/foo", {"rules": POLICIES["foo"]}),
    ("root", "PUT", "sys/policy/foo", {"policy": POLICIES["foo"]}),
    ("root", "PUT", "sys/policies/acl/b64", {"policy": "cGF0aCAiYSIgeyBjYXBhYmlsaXRpZXMgPSBbInJlYWQiXSB9"}),
    ("root", "GET", "sys/policies/acl/b64", None),
    ("root", "DELETE", "sys/policies/acl/b64", None),
    ("root", "DELETE", "sys/policies/acl/root", None),
    ("root", "DELETE", "sys/policies/acl/default", None),
    ("root", "DELETE", "sys/policies/acl/nosuch", None),
    ("foo", "GET", "sys/policies/acl/foo", None),
    *((caller, "POST", "sys/capabilities-self", body) for caller in ("root", "cre", "foo") for body in PATHS),
]

# Deliberate differences: a word of the peer's answer -> the word of ours, or None for "not said"; and why.
DIFFERENT: dict[str, tuple[str | None, str]] = {
    "Supplying a custom ID for the token uses the weaker SHA1 hashing instead of the more secure SHA2-256 "
    "HMAC for token obfuscation. SHA1 hashed tokens on the wire leads to less secure lookups.": (
        None,
        "here every token is kept as an HMAC-SHA256",
    ),
    "Tidy operation successfully started. Any information from the operation will be printed to OpenBao's "
    "server logs.": (
        "Tidy operation successfully started. Expired tokens are deleted step by step.",
        "there is no such log",
    ),
}
# A -dev server's root token was made through the API; ours and a production peer's were made by init.
ROOT_LOOKUP = {"display_name": "root", "path": "auth/token/root"}
TIMES = {"expire_time", "issue_time", "last_renewal", "modified"}
FRESH = {"client_token", "accessor", "id", "request_id", "creation_time", "last_renewal_time"}


def normal(value: Any, name: str = "") -> Any:
    """The answer with everything replaced that is new in each run."""
    if isinstance(value, dict):
        if value.get("policies") == ["root"] and "creation_ttl" in value and value["orphan"]:
            value = value | ROOT_LOOKUP
        return {key: normal(inner, key) for key, inner in value.items()}
    if name in FRESH or name in TIMES:
        return None if value in (None, "") else type(value).__name__
    if name in {"ttl", "lease_duration"} and isinstance(value, int):
        return round(value / 10)  # a second may pass between the two servers
    if isinstance(value, list):
        value = [item for item in value if item != "auditor"]  # a policy of ours alone
        items = [normal(DIFFERENT.get(item, (item, ""))[0] if name == "warnings" else item) for item in value]
        said = [item for item in items if item is not None]
        return said or None if name == "warnings" else said
    return value.replace("767h59m59s", "768h") if isinstance(value, str) else value


def run(call: Caller, root: str) -> list[tuple[int, Any]]:
    """All requests in order, on one server."""
    for name, text in POLICIES.items():
        assert call("PUT", f"sys/policies/acl/{name}", {"policy": text}, root)[0] == 204
    for name, fields in ROLES.items():
        assert call("POST", f"auth/token/roles/{name}", fields, root)[0] in {200, 204}
    tokens = {"root": root, "none": "", "nope": "nope"}
    for name in POLICIES:
        answer = call("POST", C, {"policies": [name]}, root)[1]
        tokens[name] = answer["auth"]["client_token"]
    return [
        call(method, path, _filled(body, caller), tokens[caller]) for caller, method, path, body in REQUESTS
    ]


def _filled(body: Any, caller: str) -> Any:
    if isinstance(body, dict) and "{caller}" in str(body.get("id")):
        return body | {"id": body["id"].replace("{caller}", caller)}
    return body


@pytest.mark.timeout(60)
def test_both_servers_answer_alike(peer: Peer, server: Server) -> None:
    theirs = run(peer.call, "root")
    ours = run(server.first.call, server.root)
    wrong = []
    for request, their, our in zip(REQUESTS, theirs, ours, strict=True):
        if (their[0], normal(their[1])) != (our[0], normal(our[1])):
            wrong.append((request, normal(their), normal(our)))
    for request, their, our in wrong:
        print(f"\n{request}\n   peer {their}\n   ours {our}")
    assert not wrong, f"{len(wrong)} of {len(REQUESTS)} requests are answered differently"


# (attributes of the rule on sys/policies/acl/*, body)
PARAMETERS: list[tuple[str, dict[str, Any]]] = [
    ("allowed_parameters = { policy = [] }", {"policy": POLICIES["foo"]}),
    ("allowed_parameters = { other = [] }", {"policy": POLICIES["foo"]}),
    ("denied_parameters = { policy = [] }", {"policy": POLICIES["foo"]}),
    ("denied_parameters = { name = [] }", {"policy": POLICIES["foo"]}),
    ('denied_parameters = { policy = ["path*"] }', {"policy": POLICIES["foo"]}),
    ('denied_parameters = { policy = ["*path"] }', {"policy": POLICIES["foo"]}),
    ('required_parameters = ["policy"]', {"policy": POLICIES["foo"]}),
    ('required_parameters = ["name"]', {"policy": POLICIES["foo"]}),
    ('required_parameters = ["policy"]', {}),
    ('max_wrapping_ttl = "5m"', {"policy": POLICIES["foo"]}),
]


def test_rules_about_parameters_reach_through_the_door(peer: Peer, server: Server) -> None:
    for attributes, body in PARAMETERS:
        text = f'path "sys/policies/acl/*" {{ capabilities = ["create", "update"]\n {attributes} }}'
        statuses = []
        for call, root in ((peer.call, "root"), (server.first.call, server.root)):
            assert call("PUT", "sys/policies/acl/limited", {"policy": text}, root)[0] == 204
            answer = call("POST", C, {"policies": ["limited"]}, root)[1]
            token = answer["auth"]["client_token"]
            statuses.append(call("POST", "sys/policies/acl/written", body, token)[0])
        assert statuses[0] == statuses[1], (attributes, body, statuses)
    for name in ("limited", "written"):  # the peer is shared, and the other test lists its policies
        assert peer.call("DELETE", f"sys/policies/acl/{name}")[0] == 204
