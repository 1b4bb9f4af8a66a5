"""kill -9 while a name is validated."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.acme import answering
from tests.acme.attempts import HTTP, Attempt
from tests.acme.client import Client
from tests.acme.names import Names
from tests.acme.site import make_site
from tests.conftest import ServerFactory
from tests.harness import processes
from tests.harness.dev import DevServer


def jobs_of(server: DevServer) -> int:
    """The child of the first process that has no children: the other is the workers' arbiter."""
    table = server.tree()
    parents = {one.parent for one in table}
    (jobs,) = [one.pid for one in table if one.parent == server.pid and one.pid not in parents]
    return jobs


def test_a_validation_survives_its_process(fresh_server: ServerFactory, names: Names, tmp_path: Path) -> None:
    server = fresh_server(workers=1)
    with server.api() as api:
        api.ok("POST", "sys/mounts/pki", {"type": "pki"})
        site = make_site(server, api, "pki", names, tmp_path)
        client = Client(site.directory)
        client.register().ok(201)
        attempt = Attempt(site, client)
        asked, killed = threading.Event(), threading.Event()

        def answer(path: str) -> tuple[int, dict[str, str], bytes]:
            del path
            asked.set()
            killed.wait(60)
            return 200, {}, attempt.right(HTTP).encode()

        with answering.http(server.acme_http_port, answer):
            attempt.begin(HTTP)
            assert asked.wait(60)
            processes.kill(jobs_of(server))
            killed.set()
            assert attempt.issued(HTTP)
        client.http.close()
