"""sys/remount: a mount moves to another path with all it holds.

What a mount holds hangs on its id, never on its path, so one commit moves all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from kms.clock import Clock
from kms.errors import KmsError, invalid, not_found
from kms.ids import new_uuid
from kms.operation import Call, Capability, Change, Effect, Field, Operation, Record, Result
from kms.system.mounts import BUILTIN, MOUNTS, canonical_path, demand_free, mount_of
from kms.system.settings import REMOUNTS, Remount
from kms.tables import Store, Transaction

_PROTECTED = tuple(path for path, _, _ in BUILTIN)


class RemountHandlers:
    """Handlers. One per process, safe to use from several threads.

    Args:
        end: puts what the mount issued (leases, and the tokens of a login) out of force, in the same transaction.
    """

    def __init__(self, store: Store, clock: Clock, end: Callable[[Transaction, str], None]) -> None:
        self._store = store
        self._clock = clock
        self._end = end

    def remount(self, call: Call) -> Change:
        """Within the namespace of the request: what a mount is told by its engine says whose it is."""
        source, target = _canonical(call.args["from"]), _canonical(call.args["to"])
        if any(source.startswith(path) for path in _PROTECTED):
            raise invalid(f'cannot remount "{source}"')
        same = source.startswith("auth/") == target.startswith("auth/") and target != "auth/"
        if not same or any(target.startswith(path) for path in _PROTECTED):
            raise invalid(f"cannot remount to destination {target}")
        migration, here = new_uuid(), call.namespace

        def write(tx: Transaction) -> Result:
            row = mount_of(tx, here, source)
            if row is None:
                raise invalid(f'no matching mount at "{source}"')
            demand_free(tx, here.path + target, here, 'path already in use at "{}"')
            # Leases are named after the old path, and nothing would find them under the new one.
            self._end(tx, row.key)
            tx.delete(MOUNTS, row)
            tx.insert(MOUNTS, here.path + target, row.value)
            moved = Remount(source=source, target=target, at=self._clock.now(), namespace=here.id)
            tx.insert(REMOUNTS, migration, moved)
            return Result(
                {"migration_id": migration},
                warnings=(
                    "The mount was moved with all it holds; leases and tokens that it issued have ended.",
                ),
                subject={"from": source, "to": target, "accessor": row.value.accessor},
            )

        return Change(write)

    def status(self, call: Call) -> Result:
        row = self._store.reader().get(REMOUNTS, call.args["migration_id"])
        if row is None or row.value.namespace != call.namespace.id:
            raise not_found()
        moved = row.value
        return Result(
            {
                "migration_id": row.key,
                "migration_info": {
                    "source_mount": moved.source,
                    "target_mount": moved.target,
                    "status": "success",
                },
            }
        )

    def table(self) -> list[Operation]:
        """The operations."""
        fields = (Field("from", record=Record.CLEAR), Field("to", record=Record.CLEAR))
        return [
            Operation(
                "sys.remount", Capability.UPDATE, self.remount, effect=Effect.STATE, sudo=True, fields=fields
            ),
            Operation(
                "sys.remount.status",
                Capability.READ,
                self.status,
                fields=(Field("migration_id", record=Record.CLEAR),),
            ),
        ]


def _canonical(path: object) -> str:
    if not isinstance(path, str) or not path.strip("/"):
        raise _unnamed()
    return canonical_path(path)


def _unnamed() -> KmsError:
    return invalid("both 'from' and 'to' path must be specified as a string")
