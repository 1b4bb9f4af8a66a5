"""Fixtures of client certificates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.auth.papers import Papers
from tests.harness.documents import Documents
from tests.harness.tls import TlsServer

PROXY = "127.0.0.9"


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A server with TLS that asks for certificates, and believes a proxy at one address."""
    running = TlsServer(tmp_path_factory.mktemp("tls"), proxy=f"{PROXY}/32")
    running.setup()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def papers() -> Papers:
    return Papers()


@pytest.fixture
def documents() -> Iterator[Documents]:
    running = Documents()
    yield running
    running.stop()
