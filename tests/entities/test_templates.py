"""Roles of pki and ssh that name the caller's entity (T-46), on a server with four workers."""

from __future__ import annotations

import secrets

import pytest

from tests.entities.test_live import Person, World
from tests.harness.api import Answer, Api
from tests.harness.dev import DevServer

ALL = 'path "*" { capabilities = ["create", "read", "update"] }'
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHN6Q0wmtCjeHYFnA4JF/hjuDuMTxvvwxQRw6PY8yrmf"
USER = "{{identity.entity.metadata.user}}"
WIDE = ["*", "a*", "bob,root", "a/b", "+", "a b", "bob\n", "\x00"]
SIGNER = {
    "key_type": "ca", "allow_user_certificates": True, "allowed_users": f"{USER},ops", "allowed_users_template": True,
    "default_user": USER, "default_user_template": True,
}  # fmt: skip
ISSUER = {
    "key_type": "ec", "allowed_domains": [f"{USER}.svc.test", "fix.test"], "allowed_domains_template": True,
    "allow_bare_domains": True, "allow_subdomains": True, "allow_glob_domains": True, "require_cn": False,
    "allowed_uri_sans": [f"spiffe://example.test/{USER}"], "allowed_uri_sans_template": True, "ttl": "1h",
}  # fmt: skip


@pytest.fixture
def world(server: DevServer, api: Api) -> World:
    return World(server, api, secrets.token_hex(4))


@pytest.fixture
def bob(world: World) -> Person:
    world.policy("all", "", ALL)
    person = world.person("bob", f"all-{world.word}")
    known_as(world, person, "bob")
    return person


def known_as(world: World, person: Person, user: str | None) -> None:
    metadata = {} if user is None else {"user": user}
    world.api.ok("POST", f"identity/entity/id/{person.entity}", {"metadata": metadata})


@pytest.fixture
def signer(world: World) -> str:
    mount = f"ssh-{world.word}"
    world.api.ok("POST", f"sys/mounts/{mount}", {"type": "ssh"})
    world.api.ok("POST", f"{mount}/config/ca", {"key_type": "ed25519"})
    world.api.ok("POST", f"{mount}/roles/r", SIGNER)
    return mount


@pytest.fixture
def issuer(world: World) -> str:
    mount = f"pki-{world.word}"
    world.api.ok("POST", f"sys/mounts/{mount}", {"type": "pki"})
    world.api.ok(
        "POST", f"{mount}/root/generate/internal", {"common_name": "Root", "key_type": "ec", "ttl": "24h"}
    )
    world.api.ok("POST", f"{mount}/roles/r", ISSUER)
    return mount


def ask(world: World, person: Person, path: str, body: object) -> Answer:
    with world.server.api(person.token) as mine:
        return mine.post(path, body)


def test_ssh_users_are_filled_in(world: World, bob: Person, signer: str) -> None:
    path = f"{signer}/sign/r"
    for principal, status in (("bob", 200), ("ops", 200), ("root", 400), (USER, 400)):
        answer = ask(world, bob, path, {"public_key": KEY, "valid_principals": principal})
        assert answer.status == status, principal
    assert ask(world, bob, path, {"public_key": KEY}).status == 200  # the default user
    known_as(world, bob, "rob")
    assert ask(world, bob, path, {"public_key": KEY, "valid_principals": "bob"}).status == 400
    assert ask(world, bob, path, {"public_key": KEY, "valid_principals": "rob"}).status == 200
    known_as(world, bob, None)
    refused = ask(world, bob, path, {"public_key": KEY, "valid_principals": "ops"})
    assert refused.errors == [
        f"template '{USER},ops' could not be rendered -> no value could be found for one of the template directives"
    ]
    # Root has no entity, and so no template stands for anything.
    assert world.api.post(path, {"public_key": KEY, "valid_principals": "bob"}).status == 400
    assert world.api.post(path, {"public_key": KEY, "valid_principals": "ops"}).status == 200


@pytest.mark.parametrize("value", WIDE)
def test_a_value_that_would_widen_signs_and_issues_nothing(
    world: World, bob: Person, signer: str, issuer: str, value: str
) -> None:
    known_as(world, bob, value)
    for principal in ("bob", "root", "ops", value.strip("\n\x00") or "x"):
        answer = ask(world, bob, f"{signer}/sign/r", {"public_key": KEY, "valid_principals": principal})
        assert answer.status == 400
        assert "contains forbidden value" in answer.errors[0]
    for body in ({"common_name": "bob.svc.test"}, {"common_name": "evil.svc.test"},
                 {"uri_sans": "spiffe://example.test/bob"}, {"uri_sans": "spiffe://example.test/a/b"}):  # fmt: skip
        assert ask(world, bob, f"{issuer}/issue/r", body).status == 400, body
    assert ask(world, bob, f"{issuer}/issue/r", {"common_name": "fix.test"}).status == 200


def test_pki_domains_and_uris_are_filled_in(world: World, bob: Person, issuer: str) -> None:
    path = f"{issuer}/issue/r"
    for body, status in (
        ({"common_name": "bob.svc.test"}, 200), ({"common_name": "a.bob.svc.test"}, 200),
        ({"common_name": "fix.test"}, 200), ({"common_name": "eve.svc.test"}, 400), ({"common_name": "svc.test"}, 400),
        ({"uri_sans": "spiffe://example.test/bob"}, 200), ({"uri_sans": "spiffe://example.test/eve"}, 400),
        ({"uri_sans": f"spiffe://example.test/{USER}"}, 400),
    ):  # fmt: skip
        assert ask(world, bob, path, body).status == status, body
    assert world.api.post(path, {"common_name": "bob.svc.test"}).status == 400  # root has no entity
    assert world.api.post(path, {"common_name": "fix.test"}).status == 200
    known_as(world, bob, "*")
    world.api.ok("POST", f"{issuer}/roles/r", {**ISSUER, "allow_globs_in_identity_templates": True})
    # An operator who lets them in has them.
    assert ask(world, bob, path, {"common_name": "eve.svc.test"}).status == 200
