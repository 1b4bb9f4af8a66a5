"""Every ssh path of the real server, each parameter wrong in turn, and roles against requests: its answers, or allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.generate import declared
from tests.differential.rules import Comparison, load
from tests.differential.run import run
from tests.differential.sides import ours, theirs
from tests.harness.dev import DevServer
from tests.ssh.requests import PATHS, Keys, Requests
from tests.ssh.shapes import form

ALLOWED = Path(__file__).parent / "allowed.toml"
REQUESTS = 1_650  # may not fall


@pytest.mark.slow
def test_requests_get_the_real_servers_answers(server: DevServer, tmp_path: Path) -> None:
    compared = Comparison(load(ALLOWED))
    with theirs("ssh") as their_side:
        our_side = ours(server, "ssh")
        # As the dev server's defaults are 768 hours, and ours a day.
        their_side.system("POST", f"sys/mounts/{their_side.mount}/tune", {"default_lease_ttl": "24h"})
        try:
            run(their_side, our_side, Requests(Keys.make(tmp_path)).all(), compared, form=form)
        finally:
            our_side.client.close()
    print(compared.report())
    assert not compared.different, "\n".join(compared.different[:20])
    assert not compared.unused, "entries of allowed.toml that no request needs"
    assert compared.requests >= REQUESTS


def test_every_declared_path_is_asked_with_each_verb(tmp_path: Path) -> None:
    asked = {
        (request.verb, request.path.partition("/")[0]) for request in Requests(Keys.make(tmp_path)).all()
    }
    for path in declared(PATHS, "ssh"):
        assert {(verb, path.path.partition("/")[0]) for verb in path.verbs} <= asked
