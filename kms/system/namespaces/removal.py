"""The removal of a namespace, in the jobs process: small steps, each one commit with its record.

The deletion itself was one commit: the namespace is tainted, so nothing in it answers and no token of it is in force,
and a barrier on its path ended what was issued there. What is left is room on the disk and material in the HSM. Each
step takes the first thing that is still there, so a process that is killed in between costs nothing: the next one
goes on. The row of the namespace goes last; its ID is never used again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from kms.namespaces import NAMESPACES, Namespace, NamespaceTable, scoped_prefix
from kms.operation import Capability, Change, Effect, NamespaceRef, Operation, Result
from kms.system.mounts import MOUNTS, Mount
from kms.tables import Row, Table, Transaction

STEP: Final = "namespaces.remove"
_STEPS: Final = 50  # of one turn: other periodic work waits meanwhile
_ROWS: Final = 100
Run = Callable[[str, str, Change], None]


class Remains(Protocol):
    """Something of a namespace that no mount holds."""

    def __call__(self, tx: Transaction, namespace: NamespaceRef, limit: int) -> int:
        """Remove at most `limit` rows; how many it were. Called until that is 0."""
        ...


class Removal:
    """Of the jobs process.

    Args:
        remove_mount: removes a mount with all that it holds; how many things that were.
        remains: what else there may be.
        settled: whether nothing is left of what was issued below a path.
    """

    def __init__(
        self,
        namespaces: NamespaceTable,
        remove_mount: Callable[[Transaction, Row[Mount]], int],
        remains: Sequence[Remains],
        settled: Callable[[Transaction, str], bool],
    ) -> None:
        self._namespaces = namespaces
        self._remove_mount = remove_mount
        self._remains = remains
        self._settled = settled

    def _doomed(self) -> list[Row[Namespace]]:
        return [row for row in self._namespaces.rows().values() if row.value.tainted]

    def due(self) -> bool:
        """Whether a namespace is being removed."""
        return self._namespaces.some and bool(self._doomed())

    def work(self, run: Run) -> None:
        """Some steps for each of them."""
        for row in self._doomed():
            for _ in range(_STEPS):
                went_on: list[bool] = []
                run(STEP, f"{row.key}sys/", Change(_noting(self.step, row, went_on)))
                if not went_on[0]:
                    break

    def step(self, tx: Transaction, doomed: Row[Namespace]) -> tuple[Result, bool]:
        """Remove the first thing that is left; and whether another step may follow at once."""
        row = tx.get(NAMESPACES, doomed.key)
        if row is None or row.value.id != doomed.value.id:
            return Result(subject={"namespace": doomed.key, "removed": "nothing"}), False
        facts: dict[str, str | int] = {"namespace": row.key, "namespace_id": row.value.id}
        for mount in tx.scan(MOUNTS, row.key, limit=1):
            held = self._remove_mount(tx, mount)
            return Result(subject=facts | {"removed": f"mount {mount.key}", "held": held}), True
        here = NamespaceRef(row.value.id, row.key)
        for remove in self._remains:
            count = remove(tx, here, _ROWS)
            if count:
                return Result(subject=facts | {"removed": f"{count} rows"}), True
        if not self._settled(tx, row.key):
            return Result(subject=facts | {"removed": "nothing: tokens and leases go first"}), False
        tx.delete(NAMESPACES, row)
        return Result(subject=facts | {"removed": "namespace"}), False

    def table(self) -> list[Operation]:
        """The operation that its records name."""
        return [Operation(STEP, Capability.DELETE, _never, effect=Effect.STATE)]


def rows_of(table: Table[Any]) -> Remains:
    """Rows whose keys begin with the namespace's ID (`kms.namespaces.scoped`)."""

    def remove(tx: Transaction, namespace: NamespaceRef, limit: int) -> int:
        rows = tx.scan(table, scoped_prefix(namespace), limit=limit)
        for row in rows:
            tx.delete(table, row)
        return len(rows)

    return remove


def _noting(
    step: Callable[[Transaction, Row[Namespace]], tuple[Result, bool]],
    row: Row[Namespace],
    went_on: list[bool],
) -> Callable[[Transaction], Result]:
    def write(tx: Transaction) -> Result:
        result, more = step(tx, row)
        went_on.append(more)
        return result

    return write


def _never(_call: object) -> Result:
    raise RuntimeError("no route leads to the removal of a namespace")
