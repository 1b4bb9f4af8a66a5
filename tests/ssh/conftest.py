"""The engine in this process, with faults to order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kms.hsm import Hsm
from pki.ssh.operations import operations
from pki.ssh.service import SshService
from tests.hsm.parts import opened, private_token
from tests.pki.bench import Bench, make_bench
from tests.support import make_store


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    """An open token that these tests share."""
    with opened(private_token(tmp_path_factory.mktemp("ssh-hsm"))) as shared:
        yield shared


@pytest.fixture
def bench(tmp_path: Path, hsm: Hsm) -> Iterator[Bench]:
    """A mount `pki` of type ssh with an Ed25519 CA and a role `users`."""
    store = make_store(tmp_path)
    made = make_bench(store, hsm)
    service = SshService(store, lambda: made.token, made.clock)
    made.operations |= {operation.name: operation for operation in operations(service)}
    made.engine = "ssh"
    made.do("ca-write", key_type="ed25519")
    role: dict[str, Any] = {
        "key_type": "ca",
        "allow_user_certificates": True,
        "allowed_users": "deploy",
        "default_user": "deploy",
    }
    made.result("role-write", role="users", **role)
    try:
        yield made
    finally:
        store.close()
