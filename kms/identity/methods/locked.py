"""sys/locked-users: which names are locked out, and letting one in again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.store import FAILURES
from kms.operation import Call, Capability, Change, Effect, Field, Operation, Record, Result
from kms.tables import Store, Transaction

_ACCESSOR = Field("mount_accessor", record=Record.CLEAR)
_ALIAS = Field("alias_identifier", record=Record.CLEAR)


class LockedUsers:
    """Handlers.

    Args:
        accessors: mount id -> accessor, of all mounts.
    """

    def __init__(self, store: Store, lockouts: Lockouts, accessors: Callable[[], Mapping[str, str]]) -> None:
        self._store = store
        self._lockouts = lockouts
        self._accessors = accessors

    def listing(self, call: Call) -> Result:
        """Names by mount."""
        asked = str(call.args.get("mount_accessor") or "")
        found = self._locked()
        shown = {asked: found.get(asked, [])} if asked else found
        total = sum(len(names) for names in shown.values())
        mounts = [_mount(accessor, names) for accessor, names in sorted(shown.items())]
        space = {"namespace_id": "root", "namespace_path": "", "counts": total, "mount_accessors": mounts}
        return Result(data={"by_namespace": [space], "total": total}, items=total)

    def _locked(self) -> dict[str, list[str]]:
        accessors = self._accessors()
        found: dict[str, list[str]] = {}
        for row in self._store.reader().scan(FAILURES):
            accessor = accessors.get(row.key.partition("/")[0], "")
            if accessor and self._lockouts.locked(row.value):
                found.setdefault(accessor, []).append(row.value.name)
        return found

    def unlock(self, call: Call) -> Change:
        """Forget the failures of one name. One that is not locked is no error."""
        accessor, alias = str(call.args["mount_accessor"]), str(call.args["alias_identifier"])
        mount_id = next((key for key, value in self._accessors().items() if value == accessor), "")

        def write(tx: Transaction) -> Result:
            # Names are kept in the one spelling of their method: as given, or in lower case.
            done = [self._lockouts.forget(tx, mount_id, name) for name in {alias, alias.lower()}]
            return Result(subject={"mount_accessor": accessor, "name": alias, "unlocked": int(any(done))})

        return Change(write)

    def table(self) -> list[Operation]:
        """Both."""
        return [
            Operation("sys.locked_users.list", Capability.READ, self.listing, fields=(_ACCESSOR,)),
            Operation(
                "sys.locked_users.unlock",
                Capability.UPDATE,
                self.unlock,
                effect=Effect.STATE,
                fields=(_ACCESSOR, _ALIAS),
            ),
        ]


def _mount(accessor: str, names: Iterable[str]) -> dict[str, Any]:
    listed = sorted(names)
    return {"mount_accessor": accessor, "counts": len(listed), "alias_identifiers": listed or None}
