"""Fixtures shared by the suites of keys and operations (imported by their conftests)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kms.hsm import Hsm
from tests.keys.rig import FixedRoots, NoHsm, Rig, soft_hsm


@dataclass
class Token:
    """An open HSM with its roots."""

    hsm: Hsm
    roots: FixedRoots


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Software keys only."""
    nothing = NoHsm()
    return Rig(tmp_path / "db", nothing, nothing)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """One SoftHSM token per module; a process has the module open once."""
    with soft_hsm(tmp_path_factory.mktemp("token")) as hsm:
        yield Token(hsm, FixedRoots(hsm))


@pytest.fixture
def hsm_rig(tmp_path: Path, token: Token) -> Rig:
    """Keys of both protections."""
    opened: Callable[[], Hsm] = lambda: token.hsm  # noqa: E731  (a provider, as app.py passes one)
    return Rig(tmp_path / "db", opened, token.roots)
