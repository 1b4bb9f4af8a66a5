"""Who guesses is locked out: five failed logins within fifteen minutes close a name for fifteen minutes.

Counted in the database under the one canonical spelling of the name, so over all workers and restarts, and for names
that nobody has as well, or the lock would tell which exist. A success forgets; neither another spelling nor the
wait of an attacker in a second worker does. Each mount may have other numbers (`sys/auth/:path/tune`).

Many guesses may be under way when the last one that is allowed fails. Whatever they turn out to be, they are told
what a locked name is told, the right one too: what is decided is the order of the commits.

Rows of unknown names are bounded and go by themselves; those of names that exist are always kept, or a flood of
made-up names would switch the lock off.
"""

from __future__ import annotations

from typing import Final

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError
from kms.identity.methods.store import FAILURES, Failures
from kms.operation import LockoutRule, MountRef
from kms.tables import Reader, Row, Store, Transaction

THRESHOLD: Final = 5
LOCK_SECONDS: Final = 900
RESET_SECONDS: Final = 900
MAX_ROWS: Final = 100_000
_SWEPT: Final = 20
_DEFAULT: Final = LockoutRule()


class Lockouts:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def demand_open(self, mount: MountRef, name: str, reader: Reader | None = None) -> None:
        """Raise KmsError(UNAUTHENTICATED) while the name is locked."""
        row = (reader or self._store.reader()).get(FAILURES, _key(mount, name))
        if row is not None and self.locked(row.value) and not _rule(mount).lockout_disable:
            raise KmsError(ErrorKind.UNAUTHENTICATED, "permission denied")

    def locked(self, failures: Failures) -> bool:
        """Whether the name is locked now."""
        return failures.locked_until > self._clock.now()

    def failed(self, mount: MountRef, name: str, *, known: bool) -> None:
        """Count a failure; durable when it returns.

        Args:
            mount: of the method.
            name: in its one spelling.
            known: somebody has this name.

        Raises:
            KmsError(UNAUTHENTICATED): others failed meanwhile, and the name is locked.
        """
        rule = _rule(mount)
        if rule.lockout_disable:
            return
        now = self._clock.now()
        with self._store.transaction() as tx:
            self.demand_open(mount, name, tx)
            for old in tx.find(FAILURES, {}, below=("forget_at", now), limit=_SWEPT):
                tx.delete(FAILURES, old)
            row = tx.get(FAILURES, _key(mount, name))
            failures = self._one_more(name, row, rule, now)
            if row is not None:
                tx.replace(FAILURES, row, failures)
            elif known or tx.count(FAILURES, {}) < MAX_ROWS:
                tx.insert(FAILURES, _key(mount, name), failures)

    @staticmethod
    def _one_more(name: str, row: Row[Failures] | None, rule: LockoutRule, now: float) -> Failures:
        before = row.value.count if row is not None and row.value.forget_at > now else 0
        locks = before + 1 >= (rule.lockout_threshold or THRESHOLD)
        lock = rule.lockout_duration or LOCK_SECONDS
        return Failures(
            name=name,
            count=0 if locks else before + 1,
            locked_until=now + lock if locks else 0.0,
            forget_at=now + (lock if locks else rule.lockout_counter_reset or RESET_SECONDS),
        )

    def succeeded(self, tx: Transaction, mount: MountRef, name: str) -> None:
        """A login's proof holds; its failures are forgotten, in the commit of its token.

        Raises:
            KmsError(UNAUTHENTICATED): others failed meanwhile, and the name is locked.
        """
        self.demand_open(mount, name, tx)
        self.forget(tx, mount.id, name)

    @staticmethod
    def forget(tx: Transaction, mount_id: str, name: str) -> bool:
        """Forget all failures of a name. Whether there was something to forget."""
        row = tx.get(FAILURES, f"{mount_id}/{name}")
        if row is not None:
            tx.delete(FAILURES, row)
        return row is not None


def _rule(mount: MountRef) -> LockoutRule:
    return mount.lockout or _DEFAULT


def _key(mount: MountRef, name: str) -> str:
    return f"{mount.id}/{name}"
