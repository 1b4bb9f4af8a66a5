"""T-47 over all routes of a namespace: every ID of another one is what an unknown ID is, and nothing of it is touched."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.namespaces.sides import NEW, TIME
from tests.namespaces.tenants import Tenant
from tests.sys.inventory import Spot, spots

TENANTS = ("red", "blue")
LEAST = 1_000
# What is tried in each field of a body, whatever it is for, beside what it is for.
EACH = ("entity", "accessor", "mount", "lease")
# What is tried in each parameter of a path.
SLOTS = (
    "entity",
    "entity alias",
    "group",
    "group alias",
    "mount",
    "MFA method",
    "client",
    "accessor",
    "lease",
    "wrapping accessor",
)
# Names under which bodies take IDs, and of what; each route passes over those that it does not know.
NAMES = {
    "accessor": "accessor",
    "alias_id": "entity alias",
    "alias_mount_accessor": "mount",
    "auth_method_accessors": "mount",
    "canonical_id": "entity",
    "client_id": "client",
    "entity_id": "entity",
    "entity_ids": "entity",
    "from_entity_ids": "entity",
    "id": "entity",
    "identity_entity_ids": "entity",
    "identity_group_ids": "group",
    "lease_id": "lease",
    "member_entity_ids": "entity",
    "member_group_ids": "group",
    "method_id": "MFA method",
    "mfa_method_ids": "MFA method",
    "mount_accessor": "mount",
    "to_entity_id": "entity",
    "token": "token",
}
# What would end the test's own token, close the namespace that asks, or never answers the same; and the routes of an
# engine, whose mounts are asked for each other's names by tests/sys/test_inventory.py.
APART = re.compile(
    r"/auth/token/revoke-self|/sys/namespaces/api-lock/lock\Z|/sys/wrapping/(wrap|rewrap)|/sys/tools/random|/transit/"
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with two namespaces."""
    server = DevServer(tmp_path_factory.mktemp("namespaces"), workers=1)
    server.start()
    try:
        # Some routes make RSA keys, and a busy machine takes its time.
        with Api(server.address, server.token, timeout_seconds=120) as api:
            yield api
    finally:
        server.stop()


def _belongings(here: Tenant) -> dict[str, str]:
    """Something of every kind that has an ID; name -> ID."""
    here.mount("transit")
    here.ok("POST", "transit/keys/k", {})
    here.ok("POST", "sys/auth/up", {"type": "userpass"})
    here.ok("POST", "auth/up/users/ann", {"password": "correct horse 5", "token_policies": "default"})
    auth = here.call("POST", "auth/up/login/ann", {"password": "correct horse 5"}, token="").json["auth"]
    token, accessor = here.token()
    (lease,) = here.ok("LIST", "sys/leases/lookup/auth/up/login/ann")["keys"]
    group = here.ok("POST", "identity/group", {"name": "g", "member_entity_ids": [auth["entity_id"]]})
    mount = here.ok("GET", "sys/auth")["up/"]["accessor"]
    outer = here.ok("POST", "identity/group", {"name": "e", "type": "external"})
    alias = {"name": "a", "mount_accessor": mount, "canonical_id": outer["id"]}
    method = here.ok("POST", "identity/mfa/method/totp", {"issuer": "x"})["method_id"]
    here.ok("POST", "identity/oidc/client/app", {"assignments": ["allow_all"], "redirect_uris": []})
    wrapped = here.call_wrapped("POST", "sys/wrapping/wrap", {"a": "b"})
    return {
        "entity": auth["entity_id"],
        "entity alias": here.ok("LIST", "identity/entity-alias/id")["keys"][0],
        "group": group["id"],
        "outer group": outer["id"],
        "group alias": here.ok("POST", "identity/group-alias", alias)["id"],
        "mount": mount,
        "MFA method": method,
        "client": here.ok("GET", "identity/oidc/client/app")["client_id"],
        "accessor": accessor,
        "token": token,
        "login": auth["client_token"],
        "lease": f"auth/up/login/ann/{lease}",
        "wrapping accessor": wrapped["accessor"],
    }


def _unknown_like(value: str) -> str:
    """Of the same form, of the same namespace, and nobody's."""
    body, dot, namespace = value.rpartition(".")
    body, namespace = (body, namespace) if dot and len(namespace) == 6 else (value, "")
    end = (
        next((found.end() for found in re.finditer(r"[/_.]", body)), 0)
        if "/" not in body
        else body.rfind("/") + 1
    )
    made = "".join(
        secrets.choice("0123456789abcdef" if sign in "0123456789abcdef" else "ABCDEFGHJK")
        if sign.isalnum()
        else sign
        for sign in body[end:]
    )
    return body[:end] + made + (f".{namespace}" if namespace else "")


def _told(here: Tenant, spot: Spot, value: str, ids: dict[str, str], others: bool) -> tuple[int, str]:
    """The answer, without what the caller said and what differs in any two answers.

    Args:
        here: where it is asked for.
        spot: what.
        value: for the parameters of the path.
        ids: all IDs, for the body.
        others: each name in the body gets `value`, whatever it is an ID of.
    """
    body = {name: value if others else ids[kind] for name, kind in NAMES.items()}
    answer = here.call(spot.verb, spot.path(value), body if spot.verb in {"POST", "PATCH"} else None)
    text = json.dumps(answer.json, sort_keys=True) if answer.content[:1] == b"{" else answer.content.decode()
    for said in sorted(ids.values(), key=len, reverse=True):
        for spelled in (said, said.lower(), said.rpartition("/")[2]):
            text = text.replace(spelled, "ID")
    text = re.sub(r'"request_id": "[^"]*"|"id": "[A-Za-z0-9]{6}"|"(ttl|lease_duration)": [0-9]+', "", text)
    for pattern, told in ((re.compile(TIME.pattern.removesuffix(r"\Z")), "<time>"), *NEW):
        text = pattern.sub(told, text)
    return answer.status, text


@pytest.mark.slow
def test_an_id_of_another_namespace_is_like_an_unknown_one(api: Api) -> None:
    """By introspection: each route that the server describes inside of a namespace."""
    made = {}
    for name in TENANTS:
        api.ok("POST", f"sys/namespaces/{name}", {})
        made[name] = Tenant(api, name)
    red, blue = made["red"], made["blue"]
    held = _belongings(blue)
    _belongings(red)
    asker = red.as_token()
    before = _state(blue, held)
    # The same ones for all routes: where a route makes something of that name, it is there for both afterwards.
    unknown = {name: _unknown_like(value) for name, value in held.items()}
    document = asker.call("GET", "sys/internal/specs/openapi").json
    tried, different = 0, []
    for spot in spots(document):
        if APART.search(spot.template) or not (spot.slots or spot.verb == "POST"):
            continue
        for name in SLOTS if spot.slots else EACH:
            for others in (False, True) if spot.verb == "POST" and not spot.slots else (False,):
                tried += 1
                foreign, nobodys = (
                    _told(asker, spot, ids[name], ids, others=others) for ids in (held, unknown)
                )
                if foreign != nobodys:
                    different.append(f"{spot.verb} {spot.template} with {name}: {foreign} != {nobodys}")
    print(f"{tried} pairs of requests, {len(different)} differ")
    assert not different, "\n".join(different[:15])
    assert tried >= LEAST
    assert _state(blue, held) == before


def _state(here: Tenant, held: dict[str, str]) -> list[tuple[str, int, object]]:
    """Everything of the other namespace that a request might have changed."""
    found = []
    for verb, path, body in (
        ("GET", f"identity/entity/id/{held['entity']}", None),
        ("GET", f"identity/entity-alias/id/{held['entity alias']}", None),
        ("GET", f"identity/group/id/{held['group']}", None),
        ("GET", f"identity/group-alias/id/{held['group alias']}", None),
        ("GET", f"identity/mfa/method/totp/{held['MFA method']}", None),
        ("GET", "identity/oidc/client/app", None),
        ("GET", "sys/auth/up", None),
        ("GET", "transit/keys/k", None),
        ("LIST", "identity/entity/id", None),
        ("LIST", "sys/policies/acl", None),
        ("LIST", "sys/leases/lookup/auth/up/login/ann", None),
        ("POST", "sys/wrapping/lookup", {"token": ""}),
    ):
        answer = here.call(verb, path, body)
        found.append((path, answer.status, answer.json.get("data")))
    found += [
        ("a token", here.call("GET", "auth/token/lookup-self", token=token).status, None)
        for token in (held["token"], held["login"])
    ]
    return found


def test_the_made_up_ids_are_of_the_same_form(tmp_path: Path) -> None:
    del tmp_path
    for value in (
        "0a1b2c3d-0a1b-4c3d-8a1b-0a1b2c3d4e5f.Ab3dEf",
        "auth_userpass_0a1b2c3d",
        "hvs.abcdefghijklmnopqrstuvwx.Ab3dEf",
        "auth/up/login/ann/h0123456789abcdef.Ab3dEf",
    ):
        made = _unknown_like(value)
        assert made != value
        assert len(made) == len(value)
        assert made.endswith(".Ab3dEf") or "." not in value
