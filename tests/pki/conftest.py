"""One token for the suite, one database for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kms.hsm import Hsm
from tests.hsm.parts import opened, private_token
from tests.pki.bench import Bench, make_bench
from tests.support import make_store


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    """An open token that the tests of the CA share."""
    with opened(private_token(tmp_path_factory.mktemp("pki-hsm"))) as shared:
        yield shared


@pytest.fixture
def bench(tmp_path: Path, hsm: Hsm) -> Iterator[Bench]:
    """A CA without any issuer."""
    store = make_store(tmp_path)
    try:
        yield make_bench(store, hsm)
    finally:
        store.close()


@pytest.fixture
def ca(bench: Bench) -> Bench:
    """A CA with an EC root and a role for example.com."""
    bench.root()
    bench.role()
    return bench
