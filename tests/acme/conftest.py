"""One DNS server and one ACME server for a process; tests that change settings make a mount of their own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acme.client import Client
from tests.acme.names import Names, serving
from tests.acme.site import Site, make_site
from tests.harness.api import Api
from tests.harness.dev import DevServer

SiteFactory = Callable[[], Site]
ClientFactory = Callable[..., Client]


@pytest.fixture(scope="session")
def names() -> Iterator[Names]:
    """The DNS of the tests."""
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def site(server: DevServer, names: Names, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A mount with ACME on, which all tests share. They use names and accounts of their own."""
    with server.api() as api:
        yield _mounted(server, api, names, tmp_path_factory.mktemp("acme"))


@pytest.fixture
def own_site(server: DevServer, api: Api, names: Names, tmp_path: Path) -> Site:
    """A mount with ACME on, whose settings a test may change."""
    return _mounted(server, api, names, tmp_path)


def _mounted(server: DevServer, api: Api, names: Names, folder: Path) -> Site:
    mount = f"acme-{secrets.token_hex(4)}"
    api.ok("POST", f"sys/mounts/{mount}", {"type": "pki"})
    return make_site(server, api, mount, names, folder)


@pytest.fixture
def client_of() -> Iterator[ClientFactory]:
    """Makes clients (directory, and perhaps a key); they are closed at the end."""
    made: list[Client] = []

    def make(*arguments: object) -> Client:
        made.append(Client(*arguments))  # type: ignore[arg-type]  # passed on
        return made[-1]

    yield make
    for client in made:
        client.http.close()


@pytest.fixture
def client(site: Site, client_of: ClientFactory) -> Client:
    """An account of the shared site's role."""
    made = client_of(site.directory)
    made.register().ok(201)
    return made
