"""An ACME order whose process died between the signature and its record, or whose signature failed."""

from __future__ import annotations

import pytest

from kms.errors import ErrorKind, KmsError
from kms.operation import External, Result
from pki.acme.directories import Directory
from pki.acme.finalize import Act, resolve_finalize
from pki.acme.model import AcmeConfig, Authorization, Identifier, Order, Status
from pki.acme.orders import current
from pki.acme.problems import AcmeProblem
from pki.acme.store import AUTHORIZATIONS, ORDERS, REPLACEMENTS
from pki.model import CertificateState
from pki.store import CERTIFICATES, REVOCATIONS
from tests.pki.bench import Bench


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ErrorKind.HSM_UNAVAILABLE, Status.READY),
        (ErrorKind.AUDIT_UNAVAILABLE, Status.READY),
        (ErrorKind.INVALID, Status.INVALID),
        (ErrorKind.INTEGRITY, Status.INVALID),
    ],
)
def test_an_order_whose_signature_failed_can_be_sent_again_where_that_helps(
    ca: Bench, kind: ErrorKind, status: Status
) -> None:
    mount, now = ca.mount("pki"), int(ca.clock.seconds)
    proven = Authorization(
        mount_id=mount.id,
        id="authorization",
        account_id="account",
        order_id="order",
        identifier=Identifier("dns", "a.example.com"),
        wildcard=False,
        status=Status.VALID,
        expires_at=now + 60,
        challenges=(),
    )
    order = Order(
        mount_id=mount.id,
        id="order",
        account_id="account",
        directory="acme/",
        role="",
        issuer_ref="",
        status=Status.PENDING,
        expires_at=now + 60,
        delete_after=now + 60,
        identifiers=(proven.identifier,),
        authorizations=("authorization",),
        created_at=now,
        replaces="a.b",
    )
    directory = Directory(mount, "acme/", "http://ca.test/v1/pki", AcmeConfig(), "", "", default=True)
    undone: list[str] = []
    signing: External[bytes] = External(
        {}, None, lambda: b"", lambda _tx, _der: Result(), lambda _tx, _error: undone.append("signing")
    )
    act = Act(directory, order, signing, now).external()
    with ca.store.transaction() as tx:
        tx.insert(AUTHORIZATIONS, f"{mount.id}/authorization", proven)
        tx.insert(ORDERS, f"{mount.id}/order", order)
    for _ in range(2):
        assert act.begin is not None
        with ca.store.transaction() as tx:
            act.begin(tx)
        row = ca.store.reader().get(ORDERS, f"{mount.id}/order")
        assert row is not None
        assert row.value.status == Status.PROCESSING
        with pytest.raises(AcmeProblem, match="not ready"), ca.store.transaction() as tx:
            act.begin(tx)
        with ca.store.transaction() as tx:
            act.abandon(tx, KmsError(kind, "the signature failed"))
        row = ca.store.reader().get(ORDERS, f"{mount.id}/order")
        assert row is not None
        assert current(ca.store.reader(), row.value, now).status == status
        assert not ca.store.reader().keys(REPLACEMENTS), "another order may replace the certificate"
        if status == Status.INVALID:
            break
    assert set(undone) == {"signing"}


def test_an_order_whose_signature_nobody_recorded_is_invalid_and_its_serial_revoked(ca: Bench) -> None:
    mount = ca.mount("pki")
    order = Order(
        mount_id=mount.id,
        id="order",
        account_id="account",
        directory="acme/",
        role="",
        issuer_ref="",
        status=Status.PROCESSING,
        expires_at=int(ca.clock.seconds) + 60,
        delete_after=int(ca.clock.seconds) + 60,
        identifiers=(Identifier("dns", "a.example.com"),),
        authorizations=(),
        created_at=int(ca.clock.seconds),
    )
    with ca.store.transaction() as tx:
        tx.insert(ORDERS, f"{mount.id}/order", order)
    intent: dict[str, str | int] = {
        "mount": mount.id,
        "issuer": ca.service.authorities.issuer(mount.id, "default").id,
        "serial": "4a" * 20,
        "profile": "leaf",
        "not_before": int(ca.clock.seconds),
        "not_after": int(ca.clock.seconds) + 3600,
        "stored": 1,
        "order": "order",
    }
    resolved = resolve_finalize(intent, int(ca.clock.seconds))
    with ca.store.transaction() as tx:
        resolved.conclude(tx, resolved.perform())
    reader = ca.store.reader()
    row = reader.get(ORDERS, f"{mount.id}/order")
    assert row is not None
    assert row.value.status == Status.INVALID
    assert row.value.error is not None
    assert row.value.error.type == "serverInternal"
    certificate = reader.get(CERTIFICATES, f"{mount.id}/{'4a' * 20}")
    assert certificate is not None
    assert certificate.value.state == CertificateState.UNKNOWN
    assert reader.keys(REVOCATIONS, f"{mount.id}/")
    # Twice does no harm: the first resolver may have died itself.
    with ca.store.transaction() as tx:
        again = resolve_finalize(intent, int(ca.clock.seconds))
        again.conclude(tx, again.perform())
    assert reader.get(ORDERS, f"{mount.id}/order") == row
