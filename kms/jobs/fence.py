"""The fence: each jobs process takes the next number, and one that was replaced can write no more.

A jobs process that hangs in the HSM may wake after its successor started. Its transactions call
`guard` first, inside the transaction, and are refused because the number has moved on.
"""

from __future__ import annotations

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.tables import Store, Table, Transaction

_KEY = "jobs"


class FenceNumber(msgspec.Struct, frozen=True):
    """The number of the newest jobs process."""

    number: int


FENCE = Table("jobs.fence", "jobs_fence", FenceNumber, sealed=False)


class Fence:
    """This process's number."""

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def take(cls, store: Store) -> Fence:
        """Become the jobs process; durable when it returns."""
        with store.transaction() as tx:
            row = tx.get(FENCE, _KEY)
            if row is None:
                tx.insert(FENCE, _KEY, FenceNumber(1))
                return cls(1)
            taken = FenceNumber(row.value.number + 1)
            tx.replace(FENCE, row, taken)
            return cls(taken.number)

    def guard(self, tx: Transaction) -> None:
        """Raise KmsError(CONFLICT) unless this is still the newest jobs process."""
        row = tx.get(FENCE, _KEY)
        if row is None or row.value.number != self.number:
            raise KmsError(ErrorKind.CONFLICT, "this jobs process has been replaced by a newer one")
