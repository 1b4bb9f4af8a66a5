"""T-48: a request whose proof stops at any step is refused, whatever the step says, and reaches no handler."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kms.errors import ErrorKind, KmsError
from kms.operation import Call
from kms.sensitive import Sensitive
from pki.acme import jwk, jws
from pki.acme.accounts import Accounts
from pki.acme.callers import Callers
from pki.acme.directories import Directories
from pki.acme.model import AcmeConfig
from pki.acme.nonces import Nonces
from pki.acme.operations import operations
from pki.acme.service import AcmeService
from pki.acme.store import ACCOUNTS, CONFIG, NONCES
from pki.acme.validation import Ports
from pki.model import MountConfig
from pki.store import MOUNTS, put
from tests.acme.client import jwk_of, new_key, sign
from tests.pki.bench import Bench

BASE = "http://ca.test/v1/pki"
STEPS: tuple[tuple[Any, str], ...] = (
    (Directories, "of"),
    (jws, "parse"),
    (Callers, "url"),
    (Callers, "_named"),
    (jwk, "load"),
    (jwk, "verify"),
    (Nonces, "spend"),
    (Accounts, "_check_key"),
)


def run(ca: Bench, service: AcmeService) -> None:
    """newAccount, as the pipeline does it."""
    mount = ca.mount("pki")
    table = {one.name: one for one in operations(service, ca.clock.now)}
    operation = table["pki.acme-new-account"]
    url = f"{BASE}/acme/new-account"
    key, nonce = new_key(), service.nonces.make(mount.id, ca.clock.now())
    body = sign(key, {"url": url, "nonce": nonce, "jwk": jwk_of(key)}, b"{}")
    args = {"role": "", "issuer_ref": "", "*": body}
    call = Call(operation, "pki/acme/new-account", mount, args, "id", "192.0.2.1", "test", now=ca.clock.now())
    outcome: Any = operation.act(call)
    with ca.store.transaction() as tx:
        assert outcome.write(tx).status == 201


@pytest.mark.parametrize(
    "error", [KmsError(ErrorKind.INTERNAL, "x"), KmsError(ErrorKind.INVALID, "x"), ValueError("x")]
)
@pytest.mark.parametrize(("owner", "name"), STEPS)
def test_a_step_that_fails_lets_nobody_pass(
    ca: Bench, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception
) -> None:
    with ca.store.transaction() as tx:
        row = tx.get(MOUNTS, ca.mount("pki").id)
        config = row.value if row is not None else MountConfig()
        put(tx, MOUNTS, ca.mount("pki").id, msgspec.structs.replace(config, cluster_path=BASE))
        put(tx, CONFIG, ca.mount("pki").id, AcmeConfig(enabled=True))
    service = AcmeService(ca.store, ca.service, lambda: Sensitive(bytes(32)), Ports(()))
    run(ca, service)
    before = ca.store.reader().keys(ACCOUNTS)
    spent = len(ca.store.reader().keys(NONCES))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(owner, name, fail)
    with pytest.raises((KmsError, ValueError)):
        run(ca, service)
    assert ca.store.reader().keys(ACCOUNTS) == before
    assert len(ca.store.reader().keys(NONCES)) == spent + (name == "_check_key")
