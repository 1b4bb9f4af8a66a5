"""An ACME order whose process died between the signature and its record."""

from __future__ import annotations

from pki.acme.finalize import resolve_finalize
from pki.acme.model import Identifier, Order, Status
from pki.acme.store import ORDERS
from pki.model import CertificateState
from pki.store import CERTIFICATES, REVOCATIONS
from tests.pki.bench import Bench


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
