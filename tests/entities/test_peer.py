"""Every path of entities, aliases and groups, each parameter wrong in turn: the real server's answers, or allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.differential.generate import declared
from tests.differential.rules import Comparison, load
from tests.differential.run import run
from tests.differential.sides import Side, ours, theirs
from tests.entities.forms import form
from tests.entities.requests import PATHS, Requests

ALLOWED = Path(__file__).parent / "allowed.toml"
REQUESTS = 3_495  # may not fall


def prepared(side: Side) -> Side:
    """The same server's identity store, with two mounts whose accessors requests know as {up} and {up2}."""
    made = Side(side.client, "identity", side.denied)
    for name in ("up", "up2"):
        made.system("POST", f"sys/auth/{name}", {"type": "userpass"})
    mounts = made.system("GET", "sys/auth")["data"]
    made.kept = {name: mounts[f"{name}/"]["accessor"] for name in ("up", "up2", "token")}
    return made


@pytest.mark.slow
def test_requests_get_the_real_servers_answers(fresh_server: ServerFactory) -> None:
    compared = Comparison(load(ALLOWED))
    server = fresh_server(workers=1)
    our_side = ours(server, "transit")
    with theirs("transit") as their_side:
        try:
            run(prepared(their_side), prepared(our_side), Requests().all(), compared, form=form)
        finally:
            our_side.client.close()
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:20])
    assert not compared.unused, f"entries of allowed.toml that no request needs: {compared.unused}"
    assert compared.requests >= REQUESTS


def test_every_declared_path_is_asked_with_each_verb() -> None:
    asked = {(request.verb, request.path.partition("/")[0]) for request in Requests().all()}
    for path in declared(PATHS, "identity"):
        assert {(verb, path.path.partition("/")[0]) for verb in path.verbs} <= asked
