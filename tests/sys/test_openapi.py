"""The description of the API: valid, complete, and what the server really does."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from kms.http.vault import policies, sys, token, transit
from tests.harness.dev import DevServer
from tests.sys.fuzz import described, fuzz
from tests.sys.sides import Side

METHODS = {"get", "head", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a server of its own: the shared one has hundreds of mounts, each described as the next."""
    server = DevServer(tmp_path_factory.mktemp("described") / "server", workers=1)
    server.start()
    side = Side(server.address, server.token)
    try:
        return dict(described(side))
    finally:
        side.close()
        server.stop()


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)
    names = [
        item[method]["operationId"] for item in document["paths"].values() for method in METHODS & set(item)
    ]
    assert len(names) == len(set(names)) > 400


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """From the tables that the door goes by: verb and path, sudo and unauthenticated."""
    missing = []
    for prefix, routes in {
        "sys": (*sys.ROUTES, *policies.ROUTES, *token.WRAPPING),
        "auth/token": token.ROUTES,
        "fuzz-transit": transit.ROUTES,
    }.items():
        for route in routes:
            pattern = re.sub(r"\{[a-z_.]+\}", "{}", route.pattern)
            found = [
                item
                for path, item in document["paths"].items()
                if re.sub(r"\{[a-z_]+\}", "{}", path) == f"/{prefix}/{pattern}".rstrip("/")
            ]
            verb = {"LIST": "get"}.get(route.verb, route.verb.lower())
            if not found or verb not in found[0]:
                missing.append((prefix, route.verb, route.pattern))
    assert not missing
    paths = document["paths"]
    assert paths["/sys/health"]["x-vault-unauthenticated"]
    assert paths["/sys/seal"]["x-vault-sudo"]
    assert "x-vault-sudo" not in paths["/sys/capabilities-self"]
    assert "list" in {one["name"] for one in paths["/sys/policies/acl"]["get"]["parameters"]}


def test_callers_see_what_they_can_reach(server: DevServer) -> None:
    side = Side(server.address, server.token)
    described(side)
    limited = side.token('path "fuzz-transit/encrypt/app" { capabilities = ["update"] }', "openapi")
    try:
        status, shown = side.ask("GET", "sys/internal/specs/openapi", token=limited)
        assert status == 200
        assert {path.split("/")[1] for path in shown["paths"]} == {"fuzz-transit"}
        assert side.ask("GET", "sys/internal/specs/openapi", token="")[1]["paths"] == {}
        assert side.ask("GET", "sys/internal/specs/openapi", token=secrets.token_hex(8))[0] == 403
        _, generic = side.ask("POST", "sys/internal/specs/openapi", {"generic_mount_paths": True})
        assert "/{transit_mount_path}/encrypt/{name}" in generic["paths"]
        validate(generic)
    finally:
        side.close()


def test_health_takes_no_code_that_is_none(server: DevServer) -> None:
    """Found by schemathesis: such a status line was no HTTP."""
    side = Side(server.address, server.token)
    for code in ("-1", "0x10", "99", "100", "600", "-9223372036854775808"):
        assert side.ask("GET", f"sys/health?activecode={code}")[0] == 400, code
    assert side.ask("GET", "sys/health?activecode=299")[0] == 299
    side.close()


@pytest.mark.timeout(300)
def test_answers_are_as_described(tmp_path: Path) -> None:
    """Schemathesis for half a minute: no fault of the server, no status that is not described."""
    server = DevServer(tmp_path / "server", workers=2)
    server.start()
    try:
        code, made, said = fuzz(server, tmp_path, 35, 20_261, 3)
    finally:
        server.stop()
    assert code == 0, said[-6000:]
    assert made > 100
