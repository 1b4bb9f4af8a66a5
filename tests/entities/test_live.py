"""Entities and groups on a server with four workers: what they add to tokens counts at the very next request."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import hvac
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer

TRIES = 24  # fresh connections, so that each of four workers is asked


@dataclass(frozen=True)
class Person:
    """A user of userpass who has logged in."""

    mount: str
    accessor: str
    name: str
    token: str
    entity: str


@dataclass
class World:
    """Names of this test alone, on the shared server."""

    server: DevServer
    api: Api
    word: str

    def policy(self, name: str, path: str, template: str = "") -> str:
        full = f"{name}-{self.word}"
        text = template or f'path "{path}" {{ capabilities = ["create", "update", "read"] }}'
        self.api.ok("POST", f"sys/policies/acl/{full}", {"policy": text})
        return full

    def person(self, name: str, policies: str = "") -> Person:
        mount = f"up-{self.word}"
        if not self.api.ok("GET", "sys/auth").get(f"{mount}/"):
            self.api.ok("POST", f"sys/auth/{mount}", {"type": "userpass"})
        accessor = self.api.ok("GET", "sys/auth")[f"{mount}/"]["accessor"]
        self.api.ok("POST", f"auth/{mount}/users/{name}", {"password": "pw", "token_policies": policies})
        auth = self.login(mount, name)
        return Person(mount, accessor, name, auth["client_token"], auth["entity_id"])

    def login(self, mount: str, name: str) -> dict[str, Any]:
        with self.server.api("") as anybody:
            answer = anybody.post(f"auth/{mount}/login/{name}", {"password": "pw"})
            assert answer.status == 200, answer.content
            auth: dict[str, Any] = answer.json["auth"]
            return auth

    def statuses(self, token: str, path: str) -> set[int]:
        """What every worker says, each asked on connections of its own, many at once."""

        def ask(_: int) -> int:
            with self.server.api(token) as client:
                return client.get(path).status

        with ThreadPoolExecutor(8) as pool:
            return set(pool.map(ask, range(TRIES)))


@pytest.fixture
def world(server: DevServer, api: Api) -> World:
    return World(server, api, secrets.token_hex(4))


def group(world: World, name: str, **fields: object) -> str:
    made: str = world.api.ok("POST", "identity/group", {"name": f"{name}-{world.word}", **fields})["id"]
    return made


# -- login ---------------------------------------------------------------------------------------------


def test_a_login_makes_the_entity_once_and_the_token_carries_it(world: World) -> None:
    bob = world.person("bob")
    again = world.login(bob.mount, "BOB")
    assert again["entity_id"] == bob.entity
    entity = world.api.ok("GET", f"identity/entity/id/{bob.entity}")
    (alias,) = entity["aliases"]
    assert (alias["name"], alias["mount_accessor"]) == ("bob", bob.accessor)
    assert alias["mount_path"] == f"auth/{bob.mount}/"
    with world.server.api(bob.token) as mine:
        assert mine.ok("GET", "auth/token/lookup-self")["entity_id"] == bob.entity
        # The default policy lets everybody read himself, by template.
        assert mine.get(f"identity/entity/id/{bob.entity}").status == 200
        assert mine.get(f"identity/entity/name/{entity['name']}").status == 200
        assert mine.list("identity/entity/id").status == 403


def test_an_approle_is_an_entity_with_the_metadata_of_its_secret(world: World) -> None:
    mount = f"ar-{world.word}"
    world.api.ok("POST", f"sys/auth/{mount}", {"type": "approle"})
    world.api.ok("POST", f"auth/{mount}/role/ci", {"token_policies": "none"})
    role_id = world.api.ok("GET", f"auth/{mount}/role/ci/role-id")["role_id"]
    made = world.api.ok("POST", f"auth/{mount}/role/ci/secret-id", {"metadata": '{"job": "build"}'})
    body = {"role_id": role_id, "secret_id": made["secret_id"]}
    answer = world.api.post(f"auth/{mount}/login", body)
    entity = world.api.ok("GET", f"identity/entity/id/{answer.json['auth']['entity_id']}")
    (alias,) = entity["aliases"]
    assert alias["name"] == role_id
    assert alias["metadata"] == {"job": "build", "role_name": "ci"}


def test_many_first_logins_at_once_make_one_entity(world: World) -> None:
    mount = f"many-{world.word}"
    world.api.ok("POST", f"sys/auth/{mount}", {"type": "userpass"})
    world.api.ok("POST", f"auth/{mount}/users/eve", {"password": "pw"})
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: world.login(mount, "eve")["entity_id"], range(16)))
    assert len(ids) == 1


def test_an_alias_made_beforehand_is_taken_by_the_login(world: World) -> None:
    mount = f"pre-{world.word}"
    world.api.ok("POST", f"sys/auth/{mount}", {"type": "userpass"})
    accessor = world.api.ok("GET", "sys/auth")[f"{mount}/"]["accessor"]
    world.api.ok("POST", f"auth/{mount}/users/kim", {"password": "pw"})
    policy = world.policy("kim", "identity/group/name/x")
    entity = world.api.ok("POST", "identity/entity", {"name": f"kim-{world.word}", "policies": policy})["id"]
    alias = {"name": "kim", "mount_accessor": accessor, "canonical_id": entity}
    world.api.ok("POST", "identity/entity-alias", alias)
    auth = world.login(mount, "kim")
    assert auth["entity_id"] == entity
    assert auth["identity_policies"] == [policy]
    assert auth["policies"] == ["default", policy]
    assert auth["token_policies"] == ["default"]


def test_a_name_in_another_spelling_is_not_taken_for_the_alias(world: World) -> None:
    """A method whose names differ by case has two people there; they never become one here (CVE-2025-6013)."""
    mount = f"sp-{world.word}"
    world.api.ok("POST", f"sys/auth/{mount}", {"type": "userpass"})
    accessor = world.api.ok("GET", "sys/auth")[f"{mount}/"]["accessor"]
    world.api.ok("POST", f"auth/{mount}/users/lee", {"password": "pw"})
    world.api.ok("POST", "identity/entity-alias", {"name": "Lee", "mount_accessor": accessor})
    with world.server.api("") as anybody:
        answer = anybody.post(f"auth/{mount}/login/lee", {"password": "pw"})
    assert (answer.status, answer.errors) == (
        400,
        ["this name is known here as 'Lee'; log in with that spelling"],
    )


# -- disabled, deleted, merged ---------------------------------------------------------------------------


def test_a_disabled_entitys_tokens_are_refused_by_every_worker_at_once(world: World) -> None:
    bob = world.person("bob")
    path = "auth/token/lookup-self"
    with world.server.api(bob.token) as mine:
        child = mine.post("auth/token/create", {"policies": ["default"]})
        assert child.status == 403  # default grants no creation
    for _ in range(5):
        assert world.statuses(bob.token, path) == {200}
        world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"disabled": True})
        assert world.statuses(bob.token, path) == {403}
        with world.server.api("") as anybody:
            assert anybody.post(f"auth/{bob.mount}/login/bob", {"password": "pw"}).status == 403
        world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"disabled": False})
    assert world.statuses(bob.token, path) == {200}


def test_a_deleted_entitys_tokens_are_refused_and_a_login_makes_a_new_one(world: World) -> None:
    bob = world.person("bob")
    world.api.ok("DELETE", f"identity/entity/id/{bob.entity}")
    assert world.statuses(bob.token, "auth/token/lookup-self") == {403}
    assert world.login(bob.mount, "bob")["entity_id"] not in {"", bob.entity}
    assert world.api.ok("POST", "auth/token/lookup", {"token": bob.token})["entity_id"] == bob.entity


def test_a_merged_entitys_tokens_are_the_others(world: World) -> None:
    bob = world.person("bob")
    policy = world.policy("merged", "identity/group/name/*")
    body = {"name": f"boss-{world.word}", "policies": policy}
    boss = world.api.ok("POST", "identity/entity", body)["id"]
    path = f"identity/group/name/none-{world.word}"
    assert world.statuses(bob.token, path) == {403}
    world.api.ok("POST", "identity/entity/merge", {"to_entity_id": boss, "from_entity_ids": [bob.entity]})
    assert world.statuses(bob.token, path) == {404}
    world.api.ok("POST", f"identity/entity/id/{boss}", {"disabled": True})
    assert world.statuses(bob.token, path) == {403}


# -- live policies ------------------------------------------------------------------------------------------


def test_policies_of_entity_and_nested_groups_count_at_the_next_request(world: World) -> None:
    bob = world.person("bob")
    policy = world.policy("live", "identity/group/name/*")
    path = f"identity/group/name/none-{world.word}"
    assert world.statuses(bob.token, path) == {403}

    inner = group(world, "inner")
    outer = group(world, "outer", member_group_ids=[inner], policies=policy)
    for _ in range(3):
        world.api.ok("POST", f"identity/group/id/{inner}", {"member_entity_ids": [bob.entity]})
        assert world.statuses(bob.token, path) == {404}
        world.api.ok("POST", f"identity/group/id/{inner}", {"member_entity_ids": []})
        assert world.statuses(bob.token, path) == {403}
    world.api.ok("POST", f"identity/group/id/{inner}", {"member_entity_ids": [bob.entity]})
    with world.server.api(bob.token) as mine:
        looked = mine.ok("GET", "auth/token/lookup-self")
        assert looked["identity_policies"] == [policy]
        assert looked["policies"] == ["default"]
        asked = mine.ok("POST", "sys/capabilities-self", {"path": path})
        assert "read" in asked["capabilities"]
    world.api.ok("POST", f"identity/group/id/{outer}", {"policies": []})
    assert world.statuses(bob.token, path) == {403}
    world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"policies": policy})
    assert world.statuses(bob.token, path) == {404}
    world.api.ok("DELETE", f"sys/policies/acl/{policy}")
    assert world.statuses(bob.token, path) == {403}
    world.api.ok("DELETE", f"identity/group/id/{inner}")
    assert world.api.ok("GET", f"identity/group/id/{outer}")["member_group_ids"] is None


# -- templates (T-46) ------------------------------------------------------------------------------------------


def test_a_template_stands_for_the_callers_own_values(world: World) -> None:
    bob, eve = world.person("bob", f"tpl-{world.word}"), world.person("eve", f"tpl-{world.word}")
    read = '{ capabilities = ["read"] }'
    team = group(world, "team", member_entity_ids=[bob.entity], metadata={"floor": "3"})
    world.policy("tpl", "", "\n".join((
        f'path "identity/group/name/{world.word}-{{{{identity.entity.aliases.{bob.accessor}.name}}}}" {read}',
        f'path "identity/group/name/{world.word}-{{{{identity.entity.metadata.team}}}}/x" {read}',
        f'path "identity/group/name/{world.word}-{{{{identity.groups.ids.{team}.metadata.floor}}}}/y" {read}',
        f'path "identity/group/name/{world.word}-{{{{identity.groups.names.team-{world.word}.id}}}}/z" {read}',
    )))  # fmt: skip
    at = f"identity/group/name/{world.word}-"
    assert world.statuses(bob.token, f"{at}bob") == {404}
    assert world.statuses(eve.token, f"{at}bob") == {403}
    assert world.statuses(bob.token, f"{at}blue/x") == {403}
    world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"metadata": {"team": "blue"}})
    assert world.statuses(bob.token, f"{at}blue/x") == {404}
    assert world.statuses(bob.token, f"{at}3/y") == {404}
    assert world.statuses(bob.token, f"{at}{team}/z") == {404}
    assert world.statuses(eve.token, f"{at}3/y") == {403}


@pytest.mark.parametrize("value", ["*", "a*", "+", "a/b", "a,b", "a b", "a\nb", "\x00", "a\x7f"])
def test_a_value_that_would_widen_a_pattern_shuts_its_owner_out(world: World, value: str) -> None:
    text = 'path "identity/group/name/{{identity.entity.metadata.team}}" { capabilities = ["read"] }'
    world.policy("wide", "", text)
    bob = world.person("bob", f"wide-{world.word}")
    path = f"identity/group/name/other-{world.word}"
    world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"metadata": {"team": value}})
    assert world.statuses(bob.token, path) == {403}
    with world.server.api(bob.token) as mine:
        assert mine.get("auth/token/lookup-self").status == 403
    world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"metadata": {"team": f"other-{world.word}"}})
    assert world.statuses(bob.token, path) == {404}


# -- spellings (T-45) ------------------------------------------------------------------------------------------

SPELLINGS = (
    "Root", "ROOT", "rOOt", " root", "root ", "root\t", "\u00a0root", "root\u200b", "ro\u200dot",
    "\ufeffroot", "root\n", "\uff52\uff4f\uff4f\uff54", "\u02b3\u1d52\u1d52\u1d57",
    "\u24e1\u24de\u24de\u24e3", "\U0001d42b\U0001d428\U0001d428\U0001d42d", "\uff32\uff2f\uff2f\uff34",
    "root\u0000", "root\u202e", "\u202eroot", "root\u00ad", "ro\u2060ot", "root\u2028", "root\x7f", "root/",
    "/root", "root\u3000", "root\u180e", "%72oot", "r\u043e\u043et", "ro\u03bft", "root\u0301",
)  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS, ids=ascii)
def test_no_spelling_is_another_name(world: World, spelling: str) -> None:
    """Of names of policies, entities, groups and aliases: refused, or the one name that it is shown as."""
    for what in ("entity", "group"):
        refused = world.api.post(f"identity/{what}", {"name": f"x-{world.word}", "policies": [spelling]})
        if refused.status == 200:
            # Other spaces than ours are cut off before a name is looked at, so this can only be a name of its own.
            held = world.api.ok("GET", f"identity/{what}/id/{refused.json['data']['id']}")["policies"]
            assert "root" not in held
            world.api.ok("DELETE", f"identity/{what}/id/{refused.json['data']['id']}")
        else:
            assert refused.status == 400
        name = f"root{world.word}"
        own = world.api.ok("POST", f"identity/{what}", {"name": name})["id"]
        spelled = (
            spelling.replace("root", name).replace("ROOT", name.upper()) if "oot" in spelling else spelling
        )
        answer = world.api.post(f"identity/{what}", {"name": spelled, "metadata": {"found": "yes"}})
        if answer.status == 200:
            other = world.api.ok("GET", f"identity/{what}/id/{answer.json['data']['id']}")
            assert other["name"] == spelled
            assert other["id"] != own
            world.api.ok("DELETE", f"identity/{what}/id/{other['id']}")
        elif answer.status == 204:
            assert spelled.lower() == name
        else:
            assert answer.status == 400
        world.api.ok("DELETE", f"identity/{what}/id/{own}")


def test_a_rule_about_a_name_is_not_passed_by_another_case_of_it(world: World) -> None:
    entity = world.api.ok("POST", "identity/entity", {"name": f"Chief-{world.word}"})["id"]
    text = f"""
        path "identity/entity/name/*" {{ capabilities = ["read", "update", "delete"] }}
        path "identity/entity/name/Chief-{world.word}" {{ capabilities = ["deny"] }}
    """
    world.policy("not-chief", "", text)
    bob = world.person("bob", f"not-chief-{world.word}")
    with world.server.api(bob.token) as mine:
        assert mine.get(f"identity/entity/name/Chief-{world.word}").status == 403
        assert mine.get(f"identity/entity/name/CHIEF-{world.word}").status == 404
        assert mine.delete(f"identity/entity/name/CHIEF-{world.word}").status == 204
        refused = mine.post(f"identity/entity/name/CHIEF-{world.word}", {"disabled": True})
        assert refused.status == 400
    read = world.api.ok("GET", f"identity/entity/id/{entity}")
    assert (read["name"], read["disabled"]) == (f"Chief-{world.word}", False)


# -- hvac ----------------------------------------------------------------------------------------------------


def test_hvac_drives_entities_aliases_and_groups(world: World, root: hvac.Client) -> None:
    identity = root.secrets.identity
    bob = world.person("bob")
    name = f"hvac-{world.word}"
    made = identity.create_or_update_entity(name=name, metadata={"a": "b"}, policies=["default"])
    entity = made["data"]["id"]
    assert identity.read_entity(entity)["data"]["metadata"] == {"a": "b"}
    assert identity.read_entity_by_name(name)["data"]["id"] == entity
    identity.update_entity(entity, name=name, metadata={"c": "d"}, policies=["default"], disabled=False)
    assert name in identity.list_entities_by_name()["data"]["keys"]
    assert entity in identity.list_entities()["data"]["keys"]
    alias = identity.create_or_update_entity_alias(
        name=f"h-{world.word}", canonical_id=entity, mount_accessor=bob.accessor
    )["data"]["id"]
    assert identity.read_entity_alias(alias)["data"]["canonical_id"] == entity
    found = identity.lookup_entity(alias_name=f"h-{world.word}", alias_mount_accessor=bob.accessor)
    assert found["data"]["id"] == entity
    identity.delete_entity_alias(alias)
    identity.merge_entities(from_entity_ids=[bob.entity], to_entity_id=entity)
    assert identity.read_entity(entity)["data"]["merged_entity_ids"] == [bob.entity]
    team = identity.create_or_update_group(name=name, member_entity_ids=[entity])["data"]["id"]
    assert identity.read_group(team)["data"]["member_entity_ids"] == [entity]
    assert identity.lookup_group(name=name)["data"]["id"] == team
    ext = identity.create_or_update_group(name=f"{name}-ext", group_type="external")["data"]["id"]
    group_alias = identity.create_or_update_group_alias(
        name=f"g-{world.word}", mount_accessor=bob.accessor, canonical_id=ext
    )["data"]["id"]
    assert identity.read_group_alias(group_alias)["data"]["canonical_id"] == ext
    assert group_alias in identity.list_group_aliases()["data"]["keys"]
    identity.delete_group_alias(group_alias)
    identity.delete_group(ext)
    identity.delete_group_by_name(name)
    identity.delete_entity(entity)


# -- external groups ------------------------------------------------------------------------------------------


def test_an_external_group_follows_the_claim_of_each_login(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    mount = f"jwt-{world.word}"
    world.api.ok("POST", f"sys/auth/{mount}", {"type": "jwt"})
    world.api.ok("POST", f"auth/{mount}/config", {"jwt_validation_pubkeys": [public]})
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": "keystead",
        "groups_claim": "/org/teams",
    }
    world.api.ok("POST", f"auth/{mount}/role/person", {**role, "claim_mappings": {"mail": "mail"}})
    accessor = world.api.ok("GET", "sys/auth")[f"{mount}/"]["accessor"]
    policies = {
        name: world.policy(name, f"identity/group/name/{name}-{world.word}") for name in ("devs", "ops")
    }
    for name, policy in policies.items():
        made = group(world, name, type="external", policies=policy)
        alias = {"name": f"org:{name}", "mount_accessor": accessor, "canonical_id": made}
        world.api.ok("POST", "identity/group-alias", alias)

    def login(claims: object) -> Answer:
        said = {"sub": "jane@example.test", "aud": "keystead", "mail": "j@x.test", "iat": int(time.time())}
        token = jwt.encode({**said, "exp": said["iat"] + 60, "org": claims}, key, algorithm="ES256")  # type: ignore[operator]
        with world.server.api("") as anybody:
            return anybody.post(f"auth/{mount}/login", {"role": "person", "jwt": token})

    first = login({"teams": ["org:devs", "org:unknown", "ORG:OPS"]}).json["auth"]
    assert first["identity_policies"] == sorted(policies.values())
    path = f"identity/group/name/ops-{world.word}"
    assert world.statuses(first["client_token"], path) == {200}
    second = login({"teams": "org:devs"}).json["auth"]
    assert second["entity_id"] == first["entity_id"]
    assert second["identity_policies"] == [policies["devs"]]
    # The first token's right went with the membership.
    assert world.statuses(first["client_token"], path) == {403}
    third = login({"teams": []}).json["auth"]
    assert "identity_policies" not in third
    entity = world.api.ok("GET", f"identity/entity/id/{first['entity_id']}")
    assert entity["aliases"][0]["metadata"] == {"mail": "j@x.test", "role": "person"}
    for wrong, text in (
        ({}, 'failed to fetch groups: "/org/teams" claim not found in token'),
        ({"teams": 5}, '"/org/teams" claim could not be converted to string list'),
        ({"teams": [5]}, "value 5 in groups claim could not be parsed as string"),
    ):
        refused = login(wrong)
        assert (refused.status, refused.errors) == (400, [text])


# -- aliases of token roles -----------------------------------------------------------------------------------


def test_a_token_role_may_name_the_entity(world: World) -> None:
    role = f"role-{world.word}"
    allowed = {"allowed_entity_aliases": [f"Web-{world.word}", f"app-{world.word}-*"], "orphan": True}
    world.api.ok("POST", f"auth/token/roles/{role}", allowed)
    shown = world.api.ok("GET", f"auth/token/roles/{role}")["allowed_entity_aliases"]
    assert shown == sorted([f"web-{world.word}", f"app-{world.word}-*"])

    def create(alias: str, path: str = role) -> Answer:
        return world.api.post(f"auth/token/create/{path}", {"entity_alias": alias, "policies": ["default"]})

    first = create(f"web-{world.word}").json["auth"]
    entity = world.api.ok("GET", f"identity/entity/id/{first['entity_id']}")
    assert [alias["name"] for alias in entity["aliases"]] == [f"web-{world.word}"]
    assert create(f"WEB-{world.word}").json["auth"]["entity_id"] == first["entity_id"]
    assert create(f"app-{world.word}-1").json["auth"]["entity_id"] != first["entity_id"]
    for alias in (f"web-{world.word}x", f"app-{world.word}", "root", f"web-{world.word}\u200b"):
        refused = create(alias)
        assert refused.status == 400, alias
    none = world.api.post("auth/token/create", {"entity_alias": "x"})
    assert none.errors == ["'entity_alias' is only allowed in combination with token role"]
    policy = world.policy("web", "identity/group/name/*")
    world.api.ok("POST", f"identity/entity/id/{first['entity_id']}", {"policies": policy})
    again = create(f"web-{world.word}").json["auth"]
    assert (again["identity_policies"], again["token_policies"]) == ([policy], ["default"])
    world.api.ok("POST", f"identity/entity/id/{first['entity_id']}", {"disabled": True})
    assert create(f"web-{world.word}").status == 403
    assert world.statuses(again["client_token"], "auth/token/lookup-self") == {403}
