"""sys/internal/inspect/router: which mount answers where, of all namespaces at once, for whoever looks for a fault.

The peer's sys/internal/inspect/request is not here: it repeats the caller's token in clear.
"""

from __future__ import annotations

from typing import Any, Final

from kms.errors import ErrorKind, KmsError
from kms.namespaces import NamespaceTable
from kms.operation import Call, Capability, Field, Operation, Record, Result
from kms.system.mounts import Mount, MountTable
from kms.tables import Row

_ORDERS: Final = {
    "root": ("mount_namespace", "mount_path"),
    "uuid": ("uuid",),
    "accessor": ("accessor",),
    "storage": ("storage_prefix",),
}
_BRIEF: Final = frozenset({"uuid", "accessor"})
_DETAILS: Final = frozenset({"storage_prefix", "tainted"})


def inspecting(mounts: MountTable, namespaces: NamespaceTable) -> list[Operation]:
    """The operation."""

    def router(call: Call) -> Result:
        """Every mount, in the order of what the tag names."""
        tag = call.args["tag"]
        if tag not in _ORDERS:
            raise KmsError(ErrorKind.NO_ROUTE, "1 error occurred:\n\t* unsupported path\n\n")
        shown = [_shown(row, namespaces) for row in mounts.rows().values()]
        shown.sort(key=lambda one: [one[name] for name in _ORDERS[tag]])
        if tag in _BRIEF:
            shown = [{name: one[name] for name in one if name not in _DETAILS} for one in shown]
        return Result({tag: shown}, items=len(shown))

    tag = Field("tag", record=Record.CLEAR)
    return [Operation("sys.internal.inspect.router", Capability.READ, router, sudo=True, fields=(tag,))]


def _shown(row: Row[Mount], namespaces: NamespaceTable) -> dict[str, Any]:
    mount = row.value
    return {
        "accessor": mount.accessor,
        "mount_namespace": mount.namespace_path,
        "mount_path": row.key[len(mount.namespace_path) :].removeprefix("auth/"),
        "mount_type": f"ns_{mount.type}" if mount.builtin and mount.namespace else mount.type,
        "storage_prefix": f"{mount.id}/",  # what the row keys of the engines begin with
        "tainted": namespaces.living(mount.namespace) is None,
        "uuid": mount.uuid,
    }
