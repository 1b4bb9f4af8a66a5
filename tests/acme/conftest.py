"""One DNS server for a process; an ACME server for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acme.names import Names, serving
from tests.acme.site import Site, make_site
from tests.harness.api import Api
from tests.harness.dev import DevServer


@pytest.fixture(scope="session")
def names() -> Iterator[Names]:
    """The DNS of the tests."""
    with serving() as running:
        yield running


@pytest.fixture
def site(server: DevServer, api: Api, mount: Callable[[str], str], names: Names, tmp_path: Path) -> Site:
    """A mount with ACME on."""
    return make_site(server, api, mount("pki"), names, tmp_path)
