"""Routes as data: what matches, what is told apart, what refuses to start."""

from __future__ import annotations

import pytest

from kms.errors import KmsError
from kms.http.vault.route import Route
from kms.http.vault.router import Match, Router
from kms.operation import Call, Capability, Operation, Result


def _act(_call: Call) -> Result:
    return Result()


REGISTRY = {name: Operation(name, Capability.READ, _act) for name in "abcdefghijk"}
ROUTES = (
    Route("GET", "keys/{name}", "a"),
    Route("LIST", "keys", "b"),
    Route("POST", "keys/{name}/config", "c"),
    Route("POST", "keys/import", "d"),
    Route("POST", "random/{source}/{bytes}", "e"),
    Route("POST", "random/{bytes}", "f"),
    Route("GET", "cert/{serial}", "g", free=frozenset({"serial"})),
    Route("GET", "cert/ca", "h"),
    Route("GET", "mounts/{path...}", "i"),
    Route("POST", "mounts/{path...}/tune", "j"),
    Route("LIST", "", "k"),
)
ROUTER = Router(ROUTES, REGISTRY)

MATCHES = [
    ("GET", "keys/x", "a", {"name": "x"}),
    ("LIST", "keys/", "b", {}),
    ("LIST", "keys", "b", {}),
    ("PUT", "keys/x/config", "c", {"name": "x"}),
    ("POST", "keys/import/config", "c", {"name": "import"}),
    ("POST", "keys/import", "d", {}),
    ("POST", "random/a/b", "e", {"source": "a", "bytes": "b"}),
    ("POST", "random/a", "f", {"bytes": "a"}),
    ("GET", "cert/1a:2b", "g", {"serial": "1a:2b"}),
    ("GET", "cert/ca", "h", {}),
    ("GET", "mounts/a/b/c", "i", {"path": "a/b/c"}),
    ("GET", "mounts/a/", "i", {"path": "a/"}),
    ("POST", "mounts/a/b/tune", "j", {"path": "a/b"}),
    ("GET", "mounts/tune", "i", {"path": "tune"}),
    ("LIST", "", "k", {}),
]


@pytest.mark.parametrize(("verb", "path", "operation", "arguments"), MATCHES)
def test_matches(verb: str, path: str, operation: str, arguments: dict[str, str]) -> None:
    match = ROUTER.match(verb, path)
    assert isinstance(match, Match)
    assert (match.compiled.operation.name, match.arguments()) == (operation, arguments)


@pytest.mark.parametrize(
    ("verb", "path", "reason"),
    [
        ("DELETE", "keys/x", "verb"),
        ("GET", "keys", "verb"),
        ("GET", "keys/", "verb"),
        ("GET", "keys/x/", "path"),  # not another spelling of keys/x
        ("GET", "keys/x/y", "path"),
        ("GET", "nosuch", "path"),
        ("GET", "", "verb"),
        ("POST", "mounts/tune/", "verb"),
        ("POST", "keys//config", "path"),
    ],
)
def test_misses(verb: str, path: str, reason: str) -> None:
    assert ROUTER.match(verb, path) == reason


@pytest.mark.parametrize("name", ["a b", "ä", "a%b", "-a", "a.", "x" * 129, "a:b", "<x>"])
def test_parameters_are_names(name: str) -> None:
    match = ROUTER.match("GET", f"keys/{name}")
    assert isinstance(match, Match)
    with pytest.raises(KmsError):
        match.arguments()


def test_free_parameters_are_bounded() -> None:
    match = ROUTER.match("GET", "cert/" + "a" * 513)
    assert isinstance(match, Match)
    with pytest.raises(KmsError):
        match.arguments()


@pytest.mark.parametrize(
    "routes",
    [
        (Route("GET", "x", "nosuch"),),
        (Route("GET", "x/{a}", "a"), Route("GET", "x/{b}", "b")),
        (Route("PUT", "x", "a"), Route("POST", "x", "b")),
        (Route("GET", "x/{a...}/{b}", "a"),),
    ],
    ids=["unknown operation", "twice", "PUT is POST", "parameter after the rest"],
)
def test_bad_tables_refuse_to_start(routes: tuple[Route, ...]) -> None:
    with pytest.raises(ValueError, match="route"):
        Router(routes, REGISTRY)


def test_work_does_not_grow_with_routes() -> None:
    many = tuple(Route("GET", f"r{i}/{{x}}", "a") for i in range(5000))
    match = Router(many, REGISTRY).match("GET", "r4999/v")
    assert isinstance(match, Match)
    assert match.parameters == ("v",)
