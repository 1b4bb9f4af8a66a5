"""Who consents, who is told what, and what is left: in a namespace, on a real server with four workers."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hvac
import pyotp
import pytest

from tests.harness.api import Answer, Api
from tests.harness.bao import Bao
from tests.harness.dev import KEYSTEAD, DevServer, clean_environment
from tests.namespaces.tenants import ALL, Tenant, clear, tenant

PASSWORD = {"password": "correct horse 5"}
GUARDED = """
path "transit/keys/k/rotate" { capabilities = ["update"]
  control_group { ttl = "1h"
    factor "ops" { controlled_capabilities = ["update"]
      identity { group_names = ["ops"] approvals = 1 } } } }
path "sys/wrapping/*" { capabilities = ["update"] }
"""
CONSENTING = 'path "sys/control-group/*" { capabilities = ["update", "list"] }'


@pytest.fixture
def red(api: Api) -> Tenant:
    return tenant(api)


@pytest.fixture
def blue(api: Api) -> Tenant:
    return tenant(api)


def person(here: Tenant, name: str, policy: str) -> tuple[Tenant, str]:
    """Somebody who logs in in a namespace: as such, and the entity."""
    at = f"up-{secrets.token_hex(4)}"
    here.ok("POST", f"sys/auth/{at}", {"type": "userpass"})
    here.ok("POST", f"sys/policies/acl/{at}", {"policy": policy})
    here.ok("POST", f"auth/{at}/users/{name}", {**PASSWORD, "token_policies": at})
    auth = here.call("POST", f"auth/{at}/login/{name}", PASSWORD, token="").json["auth"]
    return Tenant(here.api, here.path, auth["client_token"]), auth["entity_id"]


def versions(here: Tenant) -> int:
    return len(here.ok("GET", "transit/keys/k")["keys"])


def test_consent_is_that_of_the_namespace_and_the_request_goes_on_in_it(
    api: Api, red: Tenant, blue: Tenant
) -> None:
    for here in (red, blue, Tenant(api, "root")):
        if here.path != "root":
            here.mount("transit")
            here.ok("POST", "transit/keys/k", {})
    asker, _ = person(red, "ann", GUARDED)
    wrapped = asker.call("POST", "transit/keys/k/rotate", {}).json["wrap_info"]
    assert wrapped["creation_path"] == "transit/keys/k/rotate"
    asked = {"accessor": wrapped["accessor"]}

    # A group of the same name elsewhere, above or beside, is another group.
    outside, root_entity = person(Tenant(api, "root"), f"boss-{secrets.token_hex(4)}", consenting_in(red))
    outer = api.ok("POST", "identity/group", {"name": f"ops-{secrets.token_hex(4)}"})
    held = api.call("GET", "identity/group/name/ops")
    root_group = held.data["id"] if held.status == 200 else outer["id"]
    api.ok("POST", f"identity/group/id/{root_group}", {"name": "ops", "member_entity_ids": [root_entity]})
    boss = Tenant(api, red.path, outside.token_text)
    told = boss.call("POST", "sys/control-group/authorize", asked)
    assert (told.status, told.data["approved"]) == (200, False)
    assert "nobody asked for your consent" in told.json["warnings"][0]

    bob, bobs = person(red, "bob", CONSENTING)
    red.ok("POST", "identity/group", {"name": "ops", "member_entity_ids": [bobs]})
    other, others = person(blue, "bob", CONSENTING)
    blue.ok("POST", "identity/group", {"name": "ops", "member_entity_ids": [others]})
    unknown = {"accessor": f"{secrets.token_hex(12)}.{wrapped['accessor'][-6:]}"}
    for verb in ("request", "authorize"):
        there, nowhere = (other.call("POST", f"sys/control-group/{verb}", one) for one in (asked, unknown))
        assert (there.status, there.json["errors"]) == (nowhere.status, nowhere.json["errors"])
    assert other.call("LIST", "sys/control-group/request").status == 404
    assert asker.call("POST", "sys/wrapping/unwrap", {"token": wrapped["token"]}).status == 403

    seen = bob.ok("LIST", "sys/control-group/request")["key_info"][wrapped["accessor"]]
    assert (seen["request_path"], seen["factors"][0]["group_names"]) == ("transit/keys/k/rotate", ["ops"])
    assert bob.ok("POST", "sys/control-group/authorize", asked)["approved"] is True
    assert versions(red) == 1
    assert asker.call("POST", "sys/wrapping/unwrap", {"token": wrapped["token"]}).status == 200
    assert (versions(red), versions(blue)) == (2, 1)


def consenting_in(here: Tenant) -> str:
    return f'path "{here.path}/sys/control-group/*" {{ capabilities = ["update", "list"] }}'


def test_explanations_speak_of_the_namespace_and_below(api: Api, red: Tenant, blue: Tenant) -> None:
    kid = red.below("kid")
    token, accessor = red.token('path "transit/encrypt/k" { capabilities = ["update"] }')
    kid_token, kid_accessor = kid.token('path "transit/encrypt/k" { capabilities = ["update"] }')
    _, blue_accessor = blue.token('path "transit/encrypt/k" { capabilities = ["update"] }')
    asked = {"path": "transit/encrypt/k", "capability": "update"}
    admin = red.as_token()

    said = admin.ok("POST", "sys/policies/explain", {**asked, "accessor": accessor})
    assert (said["allowed"], said["path"]) == (True, "transit/encrypt/k")
    assert re.fullmatch(r"p-[0-9a-f]{8}", said["rules"][0]["policy"])
    below = {**asked, "path": "kid/transit/encrypt/k", "accessor": accessor}
    assert admin.ok("POST", "sys/policies/explain", below)["allowed"] is False
    for foreign in (blue_accessor, kid_accessor, "x" * 24, accessor[:-1] + "#"):
        answer = admin.call("POST", "sys/policies/explain", {**asked, "accessor": foreign})
        assert (answer.status, answer.json["errors"]) == (400, ["invalid accessor"])

    who = admin.ok("POST", "sys/policies/who", asked)
    ids = {holder["id"] for holder in who["holders"]}
    assert accessor in ids
    assert not ids & {blue_accessor, kid_accessor}
    there = {
        holder["id"]
        for holder in admin.ok("POST", "sys/policies/who", {**asked, "path": "kid/transit/encrypt/k"})[
            "holders"
        ]
    }
    assert kid_accessor in there
    from_above = api.ok("POST", "sys/policies/who", {**asked, "path": f"{red.path}/transit/encrypt/k"})
    assert accessor in {holder["id"] for holder in from_above["holders"]}
    assert not {holder["id"] for holder in from_above["holders"]} & {blue_accessor, kid_accessor}
    grants = admin.ok("POST", "sys/policies/grants", {"accessor": accessor})["grants"]
    assert [grant["path"] for grant in grants if grant["path"].endswith("encrypt/k")] == [
        f"{red.path}/transit/encrypt/k"
    ]
    assert red.call("GET", "auth/token/lookup-self", token=token).status == 200
    assert kid.call("GET", "auth/token/lookup-self", token=kid_token).status == 200


def test_a_login_is_finished_where_it_began(red: Tenant, blue: Tenant) -> None:
    red.ok("POST", "sys/auth/up", {"type": "userpass"})
    red.ok("POST", "auth/up/users/ann", {**PASSWORD, "token_policies": "default"})
    entity = red.call("POST", "auth/up/login/ann", PASSWORD, token="").json["auth"]["entity_id"]
    method = red.ok("POST", "identity/mfa/method/totp", {"issuer": "x"})["method_id"]
    generate = {"method_id": method, "entity_id": entity}
    url = red.ok("POST", "identity/mfa/method/totp/admin-generate", generate)["url"]
    rule = {"mfa_method_ids": [method], "auth_method_types": ["userpass"]}
    red.ok("POST", "identity/mfa/login-enforcement/e", rule)
    waits = red.call("POST", "auth/up/login/ann", PASSWORD, token="").json["auth"]["mfa_requirement"]
    code = pyotp.TOTP(parse_qs(urlsplit(url).query)["secret"][0]).now()

    def validate(here: Tenant, request: str) -> Answer:
        body = {"mfa_request_id": request, "mfa_payload": {method: [code]}}
        return here.call("POST", "sys/mfa/validate", body, token="")

    for request in (waits["mfa_request_id"], secrets.token_hex(16)):
        answer = validate(blue, request)
        assert (answer.status, answer.json["errors"]) == (400, ["invalid request ID"])
    token = validate(red, waits["mfa_request_id"]).json["auth"]["client_token"]
    assert red.call("GET", "auth/token/lookup-self", token=token).data["entity_id"] == entity
    # The namespace below has no method of its own, and its logins need the parent's.
    kid = red.below("kid")
    kid.ok("POST", "sys/auth/up", {"type": "userpass"})
    kid.ok("POST", "auth/up/users/ann", {**PASSWORD, "token_policies": "default"})
    below = kid.call("POST", "auth/up/login/ann", PASSWORD, token="").json["auth"]
    assert (below["client_token"], list(below["mfa_requirement"]["mfa_constraints"])) == ("", ["e"])


def test_a_tokens_policies_are_those_of_its_people_in_its_namespace(red: Tenant, blue: Tenant) -> None:
    """A group's and an entity's policies count by the name that they have in the namespace, and nowhere else."""
    for here in (red, blue):
        here.mount("transit")
        here.ok("POST", "transit/keys/k", {})
        here.ok(
            "POST", "sys/policies/acl/reader", {"policy": 'path "transit/keys/k" { capabilities = ["read"] }'}
        )
    ann, entity = person(red, "ann", 'path "nothing" { capabilities = ["read"] }')
    assert ann.call("GET", "transit/keys/k").status == 403
    group = red.ok(
        "POST", "identity/group", {"name": "g", "policies": ["reader"], "member_entity_ids": [entity]}
    )
    assert ann.call("GET", "transit/keys/k").status == 200
    assert Tenant(ann.api, blue.path, ann.token_text).call("GET", "transit/keys/k").status == 403
    told = ann.call("GET", "auth/token/lookup-self").data
    assert (told["identity_policies"], told["external_namespace_policies"]) == (["reader"], {})
    red.ok("POST", f"identity/group/id/{group['id']}", {"member_entity_ids": []})
    assert ann.call("GET", "transit/keys/k").status == 403
    red.ok("POST", f"identity/entity/id/{entity}", {"policies": ["reader"]})
    assert ann.call("GET", "transit/keys/k").status == 200
    red.ok("POST", f"identity/entity/id/{entity}", {"disabled": True})
    assert ann.call("GET", "transit/keys/k").status == 403


def test_nothing_of_a_removed_namespace_is_left_in_any_table(
    api: Api, server: DevServer, red: Tenant
) -> None:
    """Whatever its rows are named by: its ID, its path, or what ends in its ID."""
    made = api.ok("GET", f"sys/namespaces/{red.path}")
    kid = red.below("kid")
    kid.ok("POST", "sys/auth/up", {"type": "userpass"})
    red.mount("transit")
    red.ok("POST", "transit/keys/k", {})
    ann, entity = person(red, "ann", ALL)
    above = api.ok("POST", "identity/mfa/method/totp", {"issuer": "x"})["method_id"]
    for method in (above, red.ok("POST", "identity/mfa/method/totp", {"issuer": "x"})["method_id"]):
        generate = {"method_id": method, "entity_id": entity}
        red.ok("POST", "identity/mfa/method/totp/admin-generate", generate)
    red.ok(
        "POST",
        "identity/mfa/login-enforcement/e",
        {"mfa_method_ids": [above], "auth_method_types": ["userpass"]},
    )
    red.ok("POST", "identity/group", {"name": "g", "member_entity_ids": [entity]})
    red.ok("POST", "identity/oidc/key/key", {"allowed_client_ids": "*", "algorithm": "ES256"})
    red.ok("POST", "identity/oidc/role/r", {"key": "key"})
    red.ok("POST", "identity/oidc/client/app", {"assignments": ["allow_all"]})
    red.ok("POST", "identity/oidc/provider/p", {"allowed_client_ids": ["*"]})
    red.ok("POST", "sys/policies/password/pp", {"policy": 'length = 20\nrule "charset" { charset = "ab" }'})
    red.ok("POST", "auth/token/roles/r", {"allowed_policies": "default"})
    ann.ok("POST", "cubbyhole/x", {"a": "b"})
    api.ok("POST", f"sys/quotas/rate-limit/{red.path}", {"path": f"{red.path}/", "rate": 100_000})
    red.call("POST", "auth/up/login/ann", {"password": "wrong"}, token="")
    assert leftovers(server, made["id"], red.path), "what is looked for below would not be found"
    clear(api, red.path)
    assert leftovers(server, made["id"], red.path) == {}
    api.ok("DELETE", f"identity/mfa/method/totp/{above}")


def leftovers(server: DevServer, namespace_id: str, path: str) -> dict[str, list[str]]:
    """Table -> row keys that speak of a namespace."""
    (file,) = server.data.glob("storage/*.db")
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: dict[str, list[str]] = {}
        for table in tables:
            columns: list[Any] = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            # A revoked prefix stays for as long as a batch token from below it could be presented.
            if "key" not in columns or table in {"changes", "revoked_prefixes"}:
                continue
            keys = [str(row[0]) for row in database.execute(f"SELECT key FROM {table}")]  # noqa: S608  (our own names)
            told = [key for key in keys if namespace_id in key or key == path or key.startswith(f"{path}/")]
            if told:
                found[table] = told
        return found
    finally:
        database.close()


def test_the_command_speaks_of_the_namespace_that_is_set(
    api: Api, server: DevServer, red: Tenant, tmp_path: Path
) -> None:
    """`keystead policy` with BAO_NAMESPACE, as other clients: by a token of the namespace and by one from above."""
    red.mount("transit")
    red.ok("POST", "transit/keys/k", {})
    text = "\n".join(f'path "transit/keys/{name}" {{ capabilities = ["read"] }}' for name in ("k", "never"))
    token, _ = red.token(text)
    assert red.call("GET", "transit/keys/k", token=token).status == 200
    (name,) = [key for key in red.ok("LIST", "sys/policies/acl")["keys"] if key.startswith("p-")]

    def keystead(credential: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        given = {"BAO_ADDR": server.address, "BAO_TOKEN": credential, "BAO_NAMESPACE": red.path}
        return subprocess.run(
            [str(KEYSTEAD), "policy", *arguments],
            env=clean_environment(tmp_path, **given),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    for credential in (red.token()[0], api.token):
        told = keystead(credential, "explain", "transit/keys/k", "read", "--policy", name)
        assert (told.returncode, told.stderr) == (0, ""), told.stdout
        rows = keystead(credential, "unused", str(server.audit), "--format", "json")
        listed = [row["path"] for row in json.loads(rows.stdout) if row["policy"].endswith(f"/{name}")]
        assert listed == [f"{red.path}/transit/keys/never"], rows.stderr


def test_real_clients_in_a_namespace(api: Api, bao: Bao, red: Tenant) -> None:
    """Hvac and `bao` with their own ways of naming a namespace."""
    client = hvac.Client(api.address, api.token, namespace=red.path)
    client.sys.enable_auth_method("userpass", path="people")
    client.auth.userpass.create_or_update_user("kim", password="correct horse 5", mount_point="people")
    login = hvac.Client(api.address, namespace=red.path)
    auth = login.auth.userpass.login("kim", "correct horse 5", mount_point="people")["auth"]
    entity = client.secrets.identity.read_entity(auth["entity_id"])["data"]
    made = client.secrets.identity.create_or_update_group("owners", member_entity_ids=[entity["id"]])["data"]
    assert client.secrets.identity.lookup_group(group_id=made["id"])["data"]["name"] == "owners"
    root = hvac.Client(api.address, api.token)
    assert root.secrets.identity.lookup_group(group_id=made["id"]).status_code == 204
    assert login.auth.token.lookup_self()["data"]["namespace_path"] == f"{red.path}/"

    # `bao login` keeps the token; the lease is found from the root namespace too, by its own end.
    kept = bao.field(
        "token", "login", f"-namespace={red.path}", "-no-store", "-method=userpass", "-path=people",
        "username=kim", "password=correct horse 5",
    )  # fmt: skip
    (lease, *_) = client.sys.list_leases(prefix="auth/people/login/kim")["data"]["keys"]
    whole = f"auth/people/login/kim/{lease}"
    assert (
        json.loads(bao("lease", "lookup", "-format=json", whole))["data"]["namespace_path"] == f"{red.path}/"
    )
    listed = json.loads(bao("list", "-format=json", f"-namespace={red.path}", "identity/entity/name"))
    assert entity["name"] in listed
    bao("lease", "revoke", f"-namespace={red.path}", "-prefix", "auth/people/")
    for token in (kept, auth["client_token"]):
        assert red.call("GET", "auth/token/lookup-self", token=token).status == 403
