"""What the jobs process does for leases: batches, each one commit with its record, so a kill costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kms.leases.barriers import parts_of
from kms.leases.desk import LeaseDesk
from kms.leases.model import Barrier
from kms.leases.operations import expired
from kms.operation import Change, Result
from kms.tables import Row, Store, Transaction

_BATCHES = 20  # of one turn: the other periodic work waits meanwhile
_EXPIRE = "leases.expire"
_RESOURCE = "sys/leases"
Run = Callable[[str, str, Change], None]


class LeaseErrands:
    """Of the jobs process."""

    def __init__(self, desk: LeaseDesk, store: Store) -> None:
        self._desk = desk
        self._store = store
        self._reached: dict[str, str] = {}  # prefix -> the last key that was looked at

    def expire(self, run: Run) -> None:
        """Take back what is over, and what lies below revoked prefixes."""
        for _ in range(_BATCHES):
            if not self._desk.overdue():
                break
            run(_EXPIRE, _RESOURCE, Change(lambda tx: Result(subject=expired(self._desk, tx))))
        for barrier in self._desk.barriers_to_clear():
            for _ in range(_BATCHES):
                run(_EXPIRE, _RESOURCE, Change(partial(self._clear, barrier)))
                if not self._reached.get(barrier.key):
                    break

    def _clear(self, barrier: Row[Barrier], tx: Transaction) -> Result:
        after = self._reached.get(barrier.key, "")
        taken, self._reached[barrier.key] = self._desk.clear(tx, barrier, after)
        prefix, role = parts_of(barrier.key)
        return Result(subject={"prefix": prefix, "role": role, "revoked": ",".join(taken)})

    def forget(self, _run: Run) -> None:
        """Drop barriers that hold nothing back any more: no event, nothing changes by it."""
        with self._store.transaction() as tx:
            self._desk.forget(tx)
