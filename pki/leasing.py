"""Certificates with a lease: revoking the lease, or the token that owns it, revokes the certificate."""

from __future__ import annotations

from collections.abc import Callable

from kms.leases import Lease, LeaseBook, Revoker
from kms.leases.book import Terms
from kms.operation import Call, Leased
from kms.tables import Transaction
from pki import ledger
from pki.store import CERTIFICATES

KIND = "pki.certificate"


def lease_of(
    book: LeaseBook, call: Call, serial: str, not_after: int
) -> Callable[[Transaction], Leased] | None:
    """Writes the lease of a certificate in the commit that stores it; None for a caller without a token."""
    if not call.principal.token_id:
        return None
    terms = Terms(kind=KIND, ttl=not_after - int(call.now), data={"serial": serial})
    return lambda tx: book.issue(tx, call, terms)


def _revoke(tx: Transaction, lease: Lease, now: float) -> str:
    """Revoke the certificate. One that is revoked, or over by itself, or gone with its mount, needs nothing."""
    row = tx.get(CERTIFICATES, f"{lease.mount_id}/{lease.data['serial']}")
    if row is None or row.value.revoked_at or row.value.not_after <= now:
        return ""
    ledger.revoke(tx, row, int(now))
    return row.value.serial


REVOKER = Revoker(KIND, _revoke)
