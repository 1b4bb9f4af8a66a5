"""Taking back: a lease and what it stands for end in one commit.

A revoker works on this database. What cannot be taken back is tried again, later each time, and after
`MAX_ATTEMPTS` waits for an operator: it is listed as irrevocable, and `revoke-force` lets it go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from kms.errors import KmsError
from kms.leases.model import MAX_ATTEMPTS, NEVER, Lease
from kms.leases.store import LEASES
from kms.tables import Row, Transaction

_RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class Revoker:
    """What an engine brings for one kind of its leases.

    Args:
        kind: `Lease.kind`; names the engine too, so that no two meet.
        revoke: (tx, lease, now) -> what was taken back, for the record. What is gone already is no error. It
            raises KmsError before it writes anything, or not at all.
        renew: (lease, wanted seconds) -> seconds to grant; None where nothing is renewed.
    """

    kind: str
    revoke: Callable[[Transaction, Lease, float], str]
    renew: Callable[[Lease, int], int] | None = None


class Revokers:
    """All kinds of one process."""

    def __init__(self, kinds: Iterable[Revoker]) -> None:
        self._kinds = {revoker.kind: revoker for revoker in kinds}

    def of(self, lease: Lease) -> Revoker:
        """The revoker of a lease. KeyError would be a lease of an engine that this program has not."""
        return self._kinds[lease.kind]

    def take(self, tx: Transaction, row: Row[Lease], now: float, *, force: bool = False) -> str:
        """End one lease; what was taken back.

        Raises:
            KmsError: it cannot be, and nothing was changed; never with `force`.
        """
        try:
            taken = self.of(row.value).revoke(tx, row.value, now)
        except KmsError:
            if not force:
                raise
            taken = ""
        tx.delete(LEASES, row)
        return taken

    def take_all(self, tx: Transaction, rows: Sequence[Row[Lease]], now: float) -> tuple[list[str], int]:
        """End many; those that fail are tried again later: (what was taken back, how many failed)."""
        taken, failed = [], 0
        for row in rows:
            try:
                taken.append(self.take(tx, row, now))
            except KmsError as error:
                failed += 1
                tx.replace(LEASES, row, failed_once(row.value, error, now))
        return [what for what in taken if what], failed


def failed_once(lease: Lease, error: KmsError, now: float) -> Lease:
    """The lease after one more failure: due again later, or waiting for an operator."""
    attempts = lease.attempts + 1
    if attempts >= MAX_ATTEMPTS:
        return replace(lease, attempts=attempts, error=error.detail, expires_at=NEVER, irrevocable=1)
    pause = _RETRY_SECONDS * 2.0**attempts
    return replace(lease, attempts=attempts, error=error.detail, expires_at=now + pause)
