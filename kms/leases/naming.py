"""What a lease is called: in its row by its full path, on the wire as it is known inside its namespace.

A lease ID of a namespace ends in the namespace's ID, as tokens and accessors do: `auth/up/login/ann/h<hash>.<namespace>`.
That tells whoever looks it up, renews it or gives it back where it belongs, from wherever he asks.
"""

from __future__ import annotations

from kms.namespaces import NamespaceTable
from kms.operation import Call, NamespaceRef

NONE = ""
"""A row key that no lease has."""


def shown(namespace: NamespaceRef, key: str) -> str:
    """The ID of the lease with this row key, which is one of the namespace."""
    bare = key[len(namespace.path) :]
    return f"{bare}.{namespace.id}" if namespace.id else bare


def _parts(lease_id: str) -> tuple[str, str]:
    """(the ID without it, ID of the namespace). The last part of a path is ours and has no other dot."""
    name = lease_id.rpartition("/")[2]
    _, dot, namespace_id = name.partition(".")
    return (lease_id[: -len(dot + namespace_id)] if dot else lease_id), namespace_id


class Places:
    """Where leases belong. One per process."""

    def __init__(self, namespaces: NamespaceTable) -> None:
        self._namespaces = namespaces

    def of_path(self, path: str) -> NamespaceRef:
        """The namespace that a full path lies in."""
        return self._namespaces.of(path) if self._namespaces.some else NamespaceRef("", "")

    def target(self, call: Call, lease_id: str) -> NamespaceRef:
        """Where a call about a lease is for: the lease's own namespace, where the caller's token is good there.

        One that belongs elsewhere is looked for where the call asks, and is what an unknown one is.
        """
        found = self._namespaces.living(_parts(lease_id)[1]) if "." in lease_id else None
        return found if found is not None and call.principal.namespace.covers(found) else call.namespace

    @staticmethod
    def key(namespace: NamespaceRef, lease_id: str) -> str:
        """The row key of a lease ID in a namespace; `NONE` for an ID of another one."""
        bare, namespace_id = _parts(lease_id)
        return namespace.path + bare if namespace_id == namespace.id else NONE
