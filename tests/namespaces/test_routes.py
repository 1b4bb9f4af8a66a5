"""T-47: every route of a namespace, asked with what a sibling has: the answer is that to what nobody has.

The routes and their fields come from the server's own description, so one that is added is asked too.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.api import Answer
from tests.namespaces.tenants import ALL, Tenant, tenant

ENGINES = ("transit", "pki", "ssh")
NAME = "only-here"
METHODS = ("userpass", "approle", "jwt", "cert", "kubernetes", "ldap")
LEFT_OUT = re.compile(r"revoke-self|renew-self|api-lock|/login|identity/")
"""What would end the caller's own token or lock the namespace; logins, whose proof is no id; and identity, which has
a test of its own."""
_MOVING = re.compile(r'"(request_id|time|issue_time|creation_time|expire_time|nonce|[a-z_]*date)": ?"[^"]*"')


@pytest.fixture(scope="module")
def two(server: Any) -> Iterator[tuple[Tenant, Tenant]]:
    """Two namespaces with the same mounts; everything else is in the first one only."""
    with server.api() as api:
        full, empty = tenant(api), tenant(api)
        for place in (full, empty):
            for kind in ENGINES:
                place.mount(kind, kind)
            for kind in METHODS:
                place.ok("POST", f"sys/auth/{kind}", {"type": kind})
        yield full, empty


def _fill(full: Tenant) -> dict[str, str]:
    """Something of each kind, and what it is called: name of a slot or field -> value."""
    own = {"name": NAME, "key": NAME, "role": NAME, "role_name": NAME, "username": NAME}
    full.ok("POST", "transit/keys/only-here", {"exportable": True, "deletion_allowed": True})
    full.ok("POST", "sys/policies/acl/only-here", {"policy": ALL})
    full.ok(
        "POST", "sys/policies/password/only-here", {"policy": 'length = 9\nrule "charset" { charset = "ab" }'}
    )
    full.ok("POST", "auth/token/roles/only-here", {})
    full.ok("POST", "auth/userpass/users/only-here", {"password": "long enough"})
    full.ok("POST", "auth/approle/role/only-here", {"token_policies": NAME})
    made = full.ok("POST", "auth/approle/role/only-here/secret-id", {})
    own |= {"secret_id": made["secret_id"], "secret_id_accessor": made["secret_id_accessor"]}
    own["role_id"] = full.ok("GET", "auth/approle/role/only-here/role-id")["role_id"]
    root = full.ok("POST", "pki/root/generate/internal", {"common_name": NAME, "issuer_name": NAME})
    own |= {"serial": root["serial_number"], "serial_number": root["serial_number"]}
    own |= {"issuer_ref": root["issuer_id"], "key_ref": root["key_id"]}
    full.ok("POST", "pki/roles/only-here", {"allow_any_name": True})
    full.below(NAME)
    own["token"], own["accessor"] = full.token()
    own["path"] = NAME
    own["mount_accessor"] = full.ok("GET", "sys/auth")["userpass/"]["accessor"]
    return own


def _unknown(own: dict[str, str]) -> dict[str, str]:
    """As many values of the same form that nobody has."""
    none = {
        value: f"nor-{secrets.token_hex(2)}" if value == NAME else _other(value) for value in own.values()
    }
    return {name: none[value] for name, value in own.items()}


def _other(value: str) -> str:
    """Other letters and digits at the same places; what a token ends in is an id that is no secret, and stays."""
    head, dot, tail = value.rpartition(".") if value.count(".") else (value, "", "")
    return re.sub(r"[0-9a-f](?![^-:]*hvs)", lambda _: secrets.token_hex(1)[0], head) + dot + tail


def _shown(answer: Answer, given: dict[str, str]) -> str:
    text = answer.content.decode("utf-8", "replace")
    for value in sorted(set(given.values()), key=len, reverse=True):
        text = text.replace(value, "<id>").replace(json.dumps(value)[1:-1], "<id>")
    return _MOVING.sub("", text)


def _requests(document: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """(verb, path, fields) of every route that takes a name of something; first those that change nothing."""
    for verb in ("get", "patch", "post", "delete"):
        for path, item in sorted(document["paths"].items()):
            if LEFT_OUT.search(path) or verb not in item:
                continue
            content = item[verb].get("requestBody", {}).get("content", {})
            schema = next(iter(content.values()))["schema"] if content else {}
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            yield verb.upper(), path.removeprefix("/"), sorted(schema.get("properties", {}))


def test_what_a_sibling_has_is_what_nobody_has(two: tuple[Tenant, Tenant]) -> None:
    full, empty = two
    own = _fill(full)
    nobody = _unknown(own)
    document = empty.call("GET", "sys/internal/specs/openapi").json
    asked = 0
    for verb, path, fields in _requests(document):
        slots = re.findall(r"\{(\w+)\}", path)
        if not set(slots + fields) & set(own):
            continue
        answers = []
        for given in (own, nobody):
            filled = re.sub(r"\{(\w+)\}", lambda slot, given=given: given.get(slot[1], "some"), path)  # type: ignore[misc]  # one of each turn
            body = (
                {name: given[name] for name in fields if name in given} if verb in {"POST", "PATCH"} else None
            )
            answers.append((given, empty.call(verb, filled, body)))
        (_, there), (_, nowhere) = answers
        assert there.status == nowhere.status, (verb, path, there.content[:300], nowhere.content[:300])
        if verb == "GET" or there.status >= 400:
            assert _shown(there, own) == _shown(nowhere, nobody), (verb, path)
        asked += 1
    print(f"\n{asked} requests with the ids of a sibling")
    assert asked > 150
    _intact(full, own)


def _intact(full: Tenant, own: dict[str, str]) -> None:
    for path in (
        "transit/keys/only-here",
        "sys/policies/acl/only-here",
        "sys/policies/password/only-here",
        "auth/token/roles/only-here",
        "auth/userpass/users/only-here",
        "auth/approle/role/only-here",
        f"pki/cert/{own['serial']}",
        "pki/roles/only-here",
        "sys/namespaces/only-here",
    ):
        assert full.call("GET", path).status == 200, path
    assert full.call("GET", "auth/token/lookup-self", token=own["token"]).status == 200
    body = {"secret_id_accessor": own["secret_id_accessor"]}
    assert full.call("POST", "auth/approle/role/only-here/secret-id-accessor/lookup", body).status == 200
