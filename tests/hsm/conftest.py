"""One open token for the suite, and the means to get more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kms.hsm import Hsm, HsmConfig, Purpose
from kms.ids import CkaId
from tests.hsm.parts import make_roots, opened, private_token


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    """An open token that tests share: leave it usable."""
    with opened(private_token(tmp_path_factory.mktemp("hsm"))) as shared:
        yield shared


@pytest.fixture(scope="session")
def roots(hsm: Hsm) -> dict[Purpose, CkaId]:
    """Root keys in the shared token."""
    return make_roots(hsm)


@pytest.fixture
def config(tmp_path_factory: pytest.TempPathFactory) -> HsmConfig:
    """A token of the test's own, not open."""
    return private_token(tmp_path_factory.mktemp("own"))
