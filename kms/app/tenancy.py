"""Namespaces of one process: their API, what lets requests in, and their removal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from kms.identity.store import ROLES
from kms.jobs.maintenance import Errand
from kms.leases.desk import LeaseDesk
from kms.leases.store import BARRIERS
from kms.namespaces import NamespaceTable
from kms.operation import Capability, Operation, Principal
from kms.policy import PolicyService
from kms.policy.decide import decide
from kms.policy.passwordadmin import PASSWORDS
from kms.policy.store import POLICIES
from kms.system.mount_operations import MountHandlers
from kms.system.namespaces import NamespaceHandlers, Remains, Removal, rows_of
from kms.system.quotas.store import limits
from kms.tables import Transaction

REMAINS: Final[tuple[Remains, ...]] = (rows_of(POLICIES), rows_of(PASSWORDS), rows_of(ROLES), limits)
"""What a namespace holds besides its mounts, and what was issued in it."""


class Tenancy:
    """One per process."""

    def __init__(
        self,
        namespaces: NamespaceTable,
        mounts: MountHandlers,
        leases: LeaseDesk,
        policies: PolicyService,
        may_see: Callable[[Principal, str], bool],
        remains: Sequence[Remains],
    ) -> None:
        self._handlers = NamespaceHandlers(
            namespaces,
            leases.end_mount,
            may_see,
            policies.has_sudo,
            lambda principal, path: decide(policies.acl_of(principal), path, Capability.LIST).allowed,
        )
        self._removal = Removal(namespaces, mounts.remove, (*REMAINS, *remains), _settled)

    def tables(self) -> list[list[Operation]]:
        """The operations."""
        return [self._handlers.table(), self._removal.table()]

    @property
    def errands(self) -> tuple[Errand, ...]:
        """Periodic work."""
        return (Errand("namespaces.remove", 1.0, self._removal.due, self._removal.work),)


def _settled(tx: Transaction, path: str) -> bool:
    row = tx.get(BARRIERS, path)
    return row is None or not row.value.pending
