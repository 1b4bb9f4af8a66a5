"""T-59 over the real routes: no string of a path becomes a key, label or folder unless it is a name."""

from __future__ import annotations

import secrets

import pytest

from kms.errors import KmsError
from kms.http.vault import policies, sys, token, transit
from kms.http.vault.route import Route
from kms.http.vault.router import Match, Router
from kms.operation import Call, Capability, Operation, Result
from pki.http.routes import ROUTES as PKI_ROUTES
from tests.harness.dev import DevServer
from tests.http.realbao import exchange

TABLES: dict[str, tuple[Route, ...]] = {
    "system": (*sys.ROUTES, *policies.ROUTES),
    "token": token.ROUTES,
    "transit": transit.ROUTES,
    "pki": tuple(PKI_ROUTES),
}
# Parameters that are no names, each with what checks them instead.
FREE = {
    ("pki", "serial"): "pki parses hexadecimal octets",
    ("pki", "request"): "OCSP decodes base64",
}
BAD = [
    "a b",
    "a:b",
    "é",
    "x" * 129,
    "-x",
    "x.",
    "<a>",
    "a;b",
    "a'b",
    'a"b',
    "a\u202eb",
    "a*",
    "a,b",
    "~",
    "a=b",
]


def _act(_call: Call) -> Result:
    return Result()


def _cases() -> list[tuple[str, Route, str]]:
    return [
        (engine, route, segment.strip("{}"))
        for engine, routes in TABLES.items()
        for route in routes
        for segment in route.pattern.split("/")
        if segment.startswith("{") and not segment.endswith("...}")
    ]


@pytest.mark.parametrize(("engine", "route", "name"), _cases(), ids=lambda v: getattr(v, "pattern", str(v)))
def test_named_parameters_are_names(engine: str, route: Route, name: str) -> None:
    registry = {r.operation: Operation(r.operation, Capability.READ, _act) for r in TABLES[engine]}
    router = Router((route,), registry)
    for bad in BAD:
        path = "/".join(
            (bad if segment.strip("{}") == name else "x") if segment.startswith("{") else segment
            for segment in route.pattern.split("/")
        )
        match = router.match(route.verb, path)
        assert isinstance(match, Match)
        if (engine, name) in FREE:
            assert match.arguments()[name] == bad
        else:
            with pytest.raises(KmsError):
                match.arguments()


def test_every_exception_is_used() -> None:
    assert set(FREE) == {(engine, name) for engine, route, name in _cases() if name in route.free}


PATHS = [
    "transit/keys/../../sys/policies/acl/x",
    "transit/keys/%2e%2e%2f%2e%2e%2fx",
    "transit/keys/..%2fx",
    "transit/keys/a%5cb",
    "transit/keys/a%00b",
    "transit/keys/%c0%ae%c0%ae",
    "sys/policies/acl/" + "a" * 200,
    "sys/mounts/..%2f..%2fetc",
    "sys/mounts/%2e%2e/x",
    "sys/policies/acl/..%5cx",
    "sys/audit/..%2f..%2ftmp%2fx",
    "auth/token/roles/..%2fx",
    "cubbyhole/..%2f..%2fx",
    "pki/roles/%2e%2e",
    "pki/cert/..%2f..%2fx",
]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_the_live_server_refuses_before_storage(server: DevServer, method: str) -> None:
    canary = secrets.token_hex(8)
    headers = {"X-Vault-Token": server.token, "Content-Type": "application/json"}
    statuses = {}
    for path in PATHS:
        body = b'{"type":"transit","policy":"%s"}' % canary.encode() if method == "PUT" else b""
        statuses[path] = exchange(server.port, method, f"/v1/{path}", headers, body)[0]
    assert {path: status for path, status in statuses.items() if status != 400} == {}
    assert not any(
        canary in path.read_bytes().decode("latin-1")
        for path in (server.data / "audit").rglob("*")
        if path.is_file()
    )
