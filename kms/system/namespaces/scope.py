"""Whether a request may enter a namespace: is it there, is it open, and is what is asked for a tenant's business?"""

from __future__ import annotations

from typing import Final

from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.namespaces import NAMESPACES, NamespaceTable
from kms.operation import Call
from kms.tables import Transaction

IN_NAMESPACES: Final = frozenset(
    {
        "sys.no_route",
        "sys.seal_status",
        "sys.leader",
        "sys.ha_status",
        "sys.version_history",
        "sys.decode_token",
        *(f"sys.mounts.{verb}" for verb in ("list", "read", "enable", "disable", "tuning", "tune")),
        *(f"sys.auth.{verb}" for verb in ("list", "read", "enable", "disable", "tuning", "tune")),
        "sys.remount",
        "sys.remount.status",
        "sys.tools.random",
        "sys.tools.hash",
        *(f"sys.plugins.{verb}" for verb in ("catalog", "list", "read")),
        *(f"sys.internal.{what}" for what in ("acl", "namespaces", "mounts", "mount")),
        "sys.internal.openapi",
        "sys.internal.openapi.post",
        "sys.internal.counters.tokens",
        "sys.internal.counters.entities",
        "sys.internal.counters.requests",
        *(
            f"sys.namespaces.{verb}"
            for verb in ("list", "scan", "read", "write", "patch", "delete", "lock", "unlock")
        ),
        "sys.namespaces.delete_sealed",
        "sys.namespaces.seal",
        "sys.namespaces.seal_status",
        *(f"sys.wrapping.{verb}" for verb in ("wrap", "lookup", "unwrap", "rewrap")),
        *(f"policy.{verb}" for verb in ("list", "read", "write", "patch", "delete", "list_detailed")),
        *(f"policy.{verb}_old" for verb in ("index", "list", "read", "write")),
        *(f"policy.password.{verb}" for verb in ("list", "read", "write", "delete", "generate")),
        *(f"policy.capabilities{whose}" for whose in ("", "_self", "_accessor")),
        "sys.leases",
        *(f"sys.leases.{verb}" for verb in ("lookup", "list", "renew", "revoke", "tidy", "count")),
        *(f"sys.leases.revoke_{what}" for what in ("prefix", "force")),
        *(f"sys.locked_users.{verb}" for verb in ("list", "unlock")),
        "sys.mfa.validate",
        *(f"sys.control_group.{verb}" for verb in ("request", "authorize", "list")),
        *(f"policy.{verb}" for verb in ("explain", "explain_self", "who", "grants")),
    }
)
"""Operations of sys/ that know which namespace they are asked in. All others are of the whole server, and refused."""

_UNLOCK: Final = "sys.namespaces.unlock"


class Threshold:
    """Step 0 of the road, for requests in namespaces, and a look back in their commits. One per process."""

    def __init__(self, namespaces: NamespaceTable) -> None:
        self._namespaces = namespaces

    def admit(self, call: Call) -> None:
        """Let a call in, or refuse it.

        Raises:
            KmsError(NO_ROUTE): the namespace is being removed.
            KmsError(INVALID, 503): it is locked, or one above it is.
            KmsError(INVALID): the operation is one of the whole server.
        """
        unlocks = call.operation.name == _UNLOCK and not call.args.get("path")
        for row in self._namespaces.above(call.namespace):
            if row.value.tainted:
                raise KmsError(
                    ErrorKind.NO_ROUTE,
                    f'no handler for route "{call.place}" on namespace "{row.key}". route entry or namespace'
                    " is tainted.",
                )
            if row.value.lock and not unlocks:
                raise KmsError(
                    ErrorKind.INVALID,
                    "API access to this namespace has been locked by an administrator -"
                    f' "{row.key}" must be unlocked to gain access.',
                    status=503,
                )
        if call.mount.type == "system" and call.operation.name not in IN_NAMESPACES:
            raise invalid("operation unavailable in namespaces")

    def stay(self, tx: Transaction, call: Call) -> None:
        """Nothing is added to a namespace that is being removed, or it would be left over.

        Raises:
            KmsError(NOT_FOUND): it was deleted since the call came in.
        """
        row = tx.get(NAMESPACES, call.namespace.path)
        if row is None or row.value.id != call.namespace.id or row.value.tainted:
            raise not_found("namespace not found")
