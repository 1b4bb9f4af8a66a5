"""sys/locked-users: which names are locked out, and letting one in again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kms.identity.methods.lockout import Lockouts
from kms.identity.methods.store import FAILURES
from kms.identity.within import shown_id
from kms.operation import (
    Call,
    Capability,
    Change,
    Effect,
    Field,
    MountRef,
    NamespaceRef,
    Operation,
    Record,
    Result,
)
from kms.tables import Store, Transaction

_ACCESSOR = Field("mount_accessor", record=Record.CLEAR)
_ALIAS = Field("alias_identifier", record=Record.CLEAR)


class LockedUsers:
    """Handlers.

    Args:
        mounts: all mounts, by their IDs.
        namespaces: a namespace -> itself and all below it.
    """

    def __init__(
        self,
        store: Store,
        lockouts: Lockouts,
        mounts: Callable[[], Mapping[str, MountRef]],
        namespaces: Callable[[NamespaceRef], Iterable[NamespaceRef]],
    ) -> None:
        self._store = store
        self._lockouts = lockouts
        self._mounts = mounts
        self._namespaces = namespaces

    def listing(self, call: Call) -> Result:
        """Names by mount, of the namespace and of all below it; with an accessor, of that mount of the namespace."""
        asked = str(call.args.get("mount_accessor") or "")
        found = self._locked()
        if asked:
            of_mount = found.get(call.namespace.id, {}).get(asked, [])
            spaces = [_space(call.namespace, {asked: of_mount})]
        else:
            spaces = [_space(one, found.get(one.id, {})) for one in self._namespaces(call.namespace)]
            spaces.sort(key=lambda space: (-space["counts"], space["namespace_path"]))
        total = sum(space["counts"] for space in spaces)
        return Result(data={"by_namespace": spaces, "total": total}, items=total)

    def _locked(self) -> dict[str, dict[str, list[str]]]:
        """ID of a namespace -> accessor -> names."""
        mounts = self._mounts()
        found: dict[str, dict[str, list[str]]] = {}
        for row in self._store.reader().scan(FAILURES):
            mount = mounts.get(row.key.partition("/")[0])
            if mount is not None and self._lockouts.locked(row.value):
                found.setdefault(mount.namespace.id, {}).setdefault(mount.accessor, []).append(row.value.name)
        return found

    def unlock(self, call: Call) -> Change:
        """Forget the failures of one name. One that is not locked is no error."""
        accessor, alias = str(call.args["mount_accessor"]), str(call.args["alias_identifier"])
        own = (mount for mount in self._mounts().values() if mount.namespace == call.namespace)
        mount_id = next((mount.id for mount in own if mount.accessor == accessor), "")

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


def _space(namespace: NamespaceRef, found: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    mounts = [_mount(accessor, names) for accessor, names in sorted(found.items())]
    return {
        "namespace_id": shown_id(namespace),
        "namespace_path": namespace.path,
        "counts": sum(mount["counts"] for mount in mounts),
        "mount_accessors": mounts,
    }


def _mount(accessor: str, names: Iterable[str]) -> dict[str, Any]:
    listed = sorted(names)
    return {"mount_accessor": accessor, "counts": len(listed), "alias_identifiers": listed or None}
