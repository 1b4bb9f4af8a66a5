"""Rate limits (RFC 8555 6.6): counts of an hour that is fixed when it begins, kept in the commit that they bound."""

from __future__ import annotations

from kms.tables import Transaction
from pki.acme.model import HOUR, Tally
from pki.acme.problems import rate_limited
from pki.acme.store import TALLIES

_TEXTS = {
    "order": "too many orders of this account in an hour",
    "authorization": "too many authorizations in advance of this account in an hour",
    "account": "too many new accounts from this address in an hour",
    "failure": "too many failed validations of this account in an hour",
}


def spend(tx: Transaction, mount_id: str, kind: str, subject: str, *, limit: int, now: int) -> None:
    """Count one more. Raises AcmeProblem(rateLimited) when `limit` (0: none) is reached."""
    if not limit:
        return
    demand(tx, mount_id, kind, subject, limit=limit, now=now)
    key = f"{mount_id}/{kind}/{subject}"
    row = tx.get(TALLIES, key)
    if row is None:
        tx.insert(TALLIES, key, Tally(now, 1, now + HOUR))
    elif now >= row.value.began + HOUR:
        tx.replace(TALLIES, row, Tally(now, 1, now + HOUR))
    else:
        began = row.value.began
        tx.replace(TALLIES, row, Tally(began, row.value.count + 1, began + HOUR))


def demand(tx: Transaction, mount_id: str, kind: str, subject: str, *, limit: int, now: int) -> None:
    """Raise AcmeProblem(rateLimited) when `limit` is reached, without counting."""
    row = tx.get(TALLIES, f"{mount_id}/{kind}/{subject}") if limit else None
    if row is not None and row.value.count >= limit and now < row.value.began + HOUR:
        raise rate_limited(_TEXTS[kind], row.value.began + HOUR - now)
