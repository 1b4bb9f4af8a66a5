"""Identity tokens on a server with four workers, checked by PyJWT against the published keys."""

from __future__ import annotations

import secrets
from typing import Any

import hvac
import jwt
import pytest

from tests.entities.test_live import World
from tests.harness.api import Api
from tests.harness.dev import DevServer

READ = 'path "identity/oidc/token/*" { capabilities = ["read"] }'
PROTECTIONS = [("RS256", "software"), ("RS256", "hsm"), ("RS512", ""), ("ES256", ""), ("ES256", "software"),
               ("ES384", "hsm"), ("ES512", ""), ("EdDSA", "")]  # fmt: skip


@pytest.fixture
def world(server: DevServer, api: Api) -> World:
    return World(server, api, secrets.token_hex(4))


def published(world: World) -> dict[str, Any]:
    """The JWK set, by kid, as anybody gets it."""
    with world.server.api("") as anybody:
        answer = anybody.get("identity/oidc/.well-known/keys")
    assert answer.headers["content-type"] == "application/json"
    return {key["kid"]: key for key in answer.json["keys"]}


def verified(world: World, token: str, audience: str) -> dict[str, Any]:
    """The claims, by the key that the header names and its algorithm."""
    key = published(world)[jwt.get_unverified_header(token)["kid"]]
    assert key["use"] == "sig"
    claims: dict[str, Any] = jwt.decode(token, jwt.PyJWK(key), algorithms=[key["alg"]], audience=audience)
    return claims


def issue(world: World, token: str, role: str) -> dict[str, Any]:
    with world.server.api(token) as mine:
        return mine.ok("GET", f"identity/oidc/token/{role}")


@pytest.mark.parametrize(("algorithm", "protection"), PROTECTIONS)
def test_a_token_of_each_algorithm_verifies_also_after_rotations(
    world: World, algorithm: str, protection: str
) -> None:
    world.policy("oidc", "", READ)
    bob = world.person("bob", f"oidc-{world.word}")
    world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"metadata": {"team": 'blue"}, "sub": "root'}})
    team = world.api.ok(
        "POST", "identity/group", {"name": f"t-{world.word}", "member_entity_ids": [bob.entity]}
    )
    key, role = f"key-{world.word}", f"role-{world.word}"
    asked = {"algorithm": algorithm, "allowed_client_ids": "*", "protection": protection}
    world.api.ok("POST", f"identity/oidc/key/{key}", asked)
    template = (
        '{"who": {{identity.entity.name}}, "team": {{identity.entity.metadata.team}}, '
        '"groups": {{identity.entity.groups.ids}}, "login": {{identity.entity.aliases.'
        + bob.accessor
        + ".name}}}"
    )
    world.api.ok("POST", f"identity/oidc/role/{role}", {"key": key, "template": template, "ttl": "1h"})
    made = issue(world, bob.token, role)
    claims = verified(world, made["token"], made["client_id"])
    assert claims["sub"] == bob.entity
    assert claims["iss"] == f"{world.server.address}/v1/identity/oidc"
    assert claims["exp"] - claims["iat"] == 3600
    # A value with quotes in it is one value, and claims nothing else.
    assert (claims["team"], claims["login"]) == ('blue"}, "sub": "root', "bob")
    assert claims["groups"] == [team["id"]]

    before = set(published(world))
    world.api.ok("POST", f"identity/oidc/key/{key}/rotate")
    second = issue(world, bob.token, role)
    # It is signed by the key that was announced.
    assert jwt.get_unverified_header(second["token"])["kid"] in before
    verified(world, second["token"], made["client_id"])
    verified(world, made["token"], made["client_id"])
    world.api.ok("POST", f"identity/oidc/key/{key}/rotate", {"verification_ttl": 0})
    for token, active in ((made["token"], True), (second["token"], False)):
        assert world.api.post("identity/oidc/introspect", {"token": token}).json["active"] is active


def test_a_token_is_not_active_when_its_entity_is_not(world: World) -> None:
    world.policy("oidc", "", READ)
    bob = world.person("bob", f"oidc-{world.word}")
    role = f"role-{world.word}"
    key = {"algorithm": "ES256", "allowed_client_ids": "*"}
    world.api.ok("POST", f"identity/oidc/key/{role}", key)
    world.api.ok("POST", f"identity/oidc/role/{role}", {"key": role, "client_id": f"c-{world.word}"})
    token = issue(world, bob.token, role)["token"]

    def said(**body: str) -> tuple[bool, str]:
        answer = world.api.post("identity/oidc/introspect", {"token": token, **body}).json
        return answer["active"], answer.get("error", "")

    assert said() == (True, "")
    assert said(client_id=f"c-{world.word}") == (True, "")
    assert said(client_id="other") == (False, "error validating claims: the aud claim does not hold")
    header, payload, signature = token.split(".")
    for forged in (f"{header}.{payload}.{signature[:-4]}AAAA", f"{header}.{payload}.", payload,
                   jwt.encode({"sub": bob.entity}, "x" * 32, headers={"kid": jwt.get_unverified_header(token)["kid"]}),
                   jwt.encode({"sub": bob.entity}, "", algorithm="none")):  # fmt: skip
        assert said(token=forged)[0] is False
    world.api.ok("POST", f"identity/entity/id/{bob.entity}", {"disabled": True})
    assert said() == (False, "entity is disabled")
    world.api.ok("DELETE", f"identity/entity/id/{bob.entity}")
    assert said() == (False, "entity was not found")


def test_the_default_key_is_made_once_when_it_is_needed(world: World, root: hvac.Client) -> None:
    world.policy("oidc", "", READ)
    bob = world.person("bob", f"oidc-{world.word}")
    roles = [f"d{number}-{world.word}" for number in range(2)]
    for role in roles:
        world.api.ok("POST", f"identity/oidc/role/{role}", {"key": "default"})
    made = [issue(world, bob.token, role) for role in roles]
    assert len({jwt.get_unverified_header(one["token"])["kid"] for one in made}) == 1
    for one in made:
        verified(world, one["token"], one["client_id"])
    refused = world.api.delete("identity/oidc/key/default")
    assert (refused.status, refused.errors) == (400, ['deletion of key "default" not allowed'])
    world.api.ok("DELETE", f"identity/oidc/role/{roles[1]}")
    # The same through hvac.
    identity = root.secrets.identity
    assert identity.read_role(roles[0])["data"]["key"] == "default"
    assert identity.read_named_key("default")["data"]["algorithm"] == "RS256"
    assert roles[0] in identity.list_roles()["data"]["keys"]
    assert "default" in identity.list_named_keys()["data"]["keys"]
    mine = hvac.Client(url=world.server.address, token=bob.token).secrets.identity
    token = mine.generate_signed_id_token(roles[0])["data"]["token"]
    assert identity.introspect_signed_id_token(token)["active"] is True
    assert identity.read_well_known_configurations()["jwks_uri"].endswith("/.well-known/keys")
    assert identity.read_active_public_keys()["keys"]


def test_nobody_without_an_entity_and_no_other_client_gets_a_token(world: World) -> None:
    name = f"n-{world.word}"
    world.api.ok("POST", f"identity/oidc/key/{name}", {"algorithm": "ES256", "allowed_client_ids": "other"})
    world.api.ok("POST", f"identity/oidc/role/{name}", {"key": name})
    answer = world.api.get(f"identity/oidc/token/{name}")
    assert answer.status == 400
    assert "as an allowed client ID" in answer.errors[0]
    world.api.ok("POST", f"identity/oidc/key/{name}", {"allowed_client_ids": "*"})
    answer = world.api.get(f"identity/oidc/token/{name}")
    assert answer.errors == ["no entity associated with the request's token"]
