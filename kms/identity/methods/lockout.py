"""Who guesses is locked out: five failed logins within fifteen minutes close a name for fifteen minutes.

Counted in the database under the one canonical spelling of the name, so over all workers and restarts, and for names
that nobody has as well, or the lock would tell which exist. A success forgets; neither another spelling nor the
wait of an attacker in a second worker does. Rows of unknown names are bounded and go by themselves.
"""

from __future__ import annotations

from typing import Final

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.identity.methods.store import FAILURES, Failures
from kms.operation import MountRef
from kms.tables import Store, Transaction

THRESHOLD: Final = 5
LOCK_SECONDS: Final = 900.0
RESET_SECONDS: Final = 900.0
MAX_ROWS: Final = 100_000
_SWEPT: Final = 20


class Lockouts:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def demand_open(self, mount: MountRef, name: str) -> None:
        """Raise KmsError(UNAUTHENTICATED) while the name is locked."""
        row = self._store.reader().get(FAILURES, _key(mount, name))
        if row is not None and row.value.locked_until > self._clock.now():
            raise KmsError(ErrorKind.UNAUTHENTICATED, "permission denied")

    def failed(self, mount: MountRef, name: str) -> None:
        """Count a failure; durable when it returns."""
        now = self._clock.now()
        with self._store.transaction() as tx:
            for old in tx.find(FAILURES, {}, below=("forget_at", now), limit=_SWEPT):
                tx.delete(FAILURES, old)
            row = tx.get(FAILURES, _key(mount, name))
            count = row.value.count + 1 if row is not None else 1
            locked = count >= THRESHOLD
            failures = Failures(
                name=name,
                count=0 if locked else count,
                locked_until=now + LOCK_SECONDS if locked else 0.0,
                forget_at=now + (LOCK_SECONDS if locked else RESET_SECONDS),
            )
            if row is not None:
                tx.replace(FAILURES, row, failures)
            elif tx.count(FAILURES, {}) < MAX_ROWS:
                tx.insert(FAILURES, _key(mount, name), failures)

    def forget(self, tx: Transaction, mount: MountRef, name: str) -> bool:
        """A login succeeded, or an operator unlocks the name. Whether there was something to forget."""
        row = tx.get(FAILURES, _key(mount, name))
        if row is not None:
            tx.delete(FAILURES, row)
        return row is not None


def _key(mount: MountRef, name: str) -> str:
    return f"{mount.id}/{name}"
