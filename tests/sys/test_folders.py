"""Policies whose names have folders: they bind as any, and none is taken for one of a namespace."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.sys.sides import Side

READS = 'path "cubbyhole/mine" { capabilities = ["create", "update", "read"] }'


@pytest.fixture
def side(server: DevServer) -> Iterator[Side]:
    made = Side(server.address, server.token)
    yield made
    made.close()


def _created(bao: Bao, *options: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(bao("token", "create", "-format=json", *options))["auth"]
    return made


def test_written_listed_and_held_by_a_token(side: Side, server: DevServer, tmp_path: Path) -> None:
    """With the real command; the rights are those of the text, and end with it."""
    folder = f"team-{secrets.token_hex(3)}"
    bao = Bao(server.address, server.token, tmp_path)
    bao("policy", "write", f"{folder}/app", "-", stdin=READS)
    assert f"{folder}/app" in bao("policy", "list").split()
    assert bao("policy", "read", f"{folder}/app").strip() == READS
    created = _created(bao, f"-policy={folder}/app", "-no-default-policy")
    assert created["policies"] == [f"{folder}/app"]
    token = created["client_token"]
    assert side.ask("POST", "cubbyhole/mine", {"a": "b"}, token=token)[0] == 204
    assert side.ask("POST", "cubbyhole/other", {"a": "b"}, token=token)[0] == 403
    explained = side.data(
        "POST",
        "sys/policies/explain",
        {"path": "cubbyhole/mine", "capability": "read", "policies": [f"{folder}/app"]},
    )
    assert explained["allowed"]
    assert {rule["policy"] for rule in explained["rules"]} == {f"{folder}/app"}
    bao("policy", "delete", f"{folder}/app")
    assert side.ask("GET", "cubbyhole/mine", token=token)[0] == 403


def test_a_folder_called_as_a_namespace_gives_no_right_there(side: Side) -> None:
    """A row key of a namespace is its ID, a slash and the name; no name of the root namespace is one."""
    team = f"ns-{secrets.token_hex(3)}"
    ident = side.data("POST", f"sys/namespaces/{team}", {})["id"]
    assert side.ask("POST", f"sys/policies/acl/{ident}/p", {"policy": READS})[0] == 204
    assert side.data("GET", f"sys/policies/acl/{ident}/p")["policy"] == READS
    assert side.ask("GET", f"{team}/sys/policies/acl/p")[0] == 404
    assert side.data("LIST", f"{team}/sys/policies/acl")["keys"] == ["default"]
    body = {"policies": ["p"], "no_default_policy": True}
    status, made = side.ask("POST", f"{team}/auth/token/create", body)
    assert status == 200
    token = made["auth"]["client_token"]
    assert side.ask("POST", f"{team}/cubbyhole/mine", {"a": "b"}, token=token)[0] == 403
    # And the other way: the namespace's own folders are its own.
    assert side.ask("POST", f"{team}/sys/policies/acl/f/p", {"policy": READS})[0] == 204
    assert side.data("LIST", f"{team}/sys/policies/acl/f")["keys"] == ["f/p"]
    assert side.ask("GET", "sys/policies/acl/f/p")[0] == 404
    body = {"policies": ["f/p"], "no_default_policy": True}
    token = side.ask("POST", f"{team}/auth/token/create", body)[1]["auth"]["client_token"]
    assert side.ask("POST", f"{team}/cubbyhole/mine", {"a": "b"}, token=token)[0] == 204


def test_consent_of_a_folder_s_holders(side: Side) -> None:
    """A control group that names such a policy is satisfied by who holds it, and by nobody else."""
    name = f"cg-{secrets.token_hex(3)}"
    side.data(
        "POST",
        f"sys/policies/acl/{name}/approver",
        {"policy": 'path "sys/control-group/*" { capabilities = ["update"] }'},
    )
    factor = (
        f'factor "two" {{ controlled_capabilities = ["read"]\n identity {{ policy_names = ["{name}/approver"]\n'
        " approvals = 1 } }"
    )
    text = f'path "{name}/keys/k" {{ capabilities = ["read"]\n control_group {{ {factor} }}\n}}'
    side.data("POST", f"sys/mounts/{name}", {"type": "transit"})
    side.data("POST", f"{name}/keys/k", {})
    asking = side.token(text, f"{name}-asking")
    status, waiting = side.ask("GET", f"{name}/keys/k", token=asking)
    assert status == 200, waiting
    accessor = waiting["wrap_info"]["accessor"]
    side.data("POST", f"sys/auth/{name}-up", {"type": "userpass"})
    for person, policies in (("other", []), ("kim", [f"{name}/approver"])):
        held = [*policies, f"{name}-may"]
        side.data(
            "POST",
            f"sys/policies/acl/{name}-may",
            {"policy": 'path "sys/control-group/*" { capabilities = ["update"] }'},
        )
        side.data(
            "POST", f"auth/{name}-up/users/{person}", {"password": "correct horse 7", "token_policies": held}
        )
        login = side.ask("POST", f"auth/{name}-up/login/{person}", {"password": "correct horse 7"}, token="")[
            1
        ]
        token = login["auth"]["client_token"]
        status, answer = side.ask("POST", "sys/control-group/authorize", {"accessor": accessor}, token=token)
        assert (status, answer["data"]["approved"]) == (200, bool(policies))
    asked = side.data("POST", "sys/control-group/request", {"accessor": accessor})
    assert [factor["policy_names"] for factor in asked["factors"]] == [[f"{name}/approver"]]
