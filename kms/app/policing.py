"""What decides, explains and restrains, beside the policies themselves: built here for `kms.app.process`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kms.app.holders import KnownHolders
from kms.clock import Clock
from kms.config.sections import ApprovalsSection, Kind
from kms.identity import TokenService
from kms.identity.consent.demands import OperatorDemands
from kms.identity.consent.model import CONSENTS
from kms.identity.consent.operations import consent_operations
from kms.identity.consent.service import Consents
from kms.jobs.maintenance import Errand
from kms.operation import Operation, Principal
from kms.policy import PolicyService
from kms.policy import operations as policy_operations
from kms.policy.explaining import Explainer
from kms.policy.passwordadmin import PASSWORDS, PasswordPolicies
from kms.policy.store import POLICIES
from kms.system.mounts import MountTable
from kms.tables import Store, Table

TABLES: tuple[Table[Any], ...] = (POLICIES, PASSWORDS, CONSENTS)
"""All of them: sealed, and looked through at the start."""


KINDS: Final[dict[Kind, tuple[str, ...]]] = {
    "destroy": (
        "transit.keys.delete",
        "transit.keys.trim",
        "pki.key-delete",
        "pki.root-delete",
        "pki.issuer-delete",
        "sys.mounts.disable",
        "sys.hsm.tokens.remove",
    ),
    "export": ("transit.export", "transit.backup", "transit.byok-export"),
    "rotate-root": ("sys.root.rotate",),
}
"""The operations that `[approvals] operations` means: a test compares them with what the server has."""


class Policing:
    """One per process.

    Args:
        operation: by name; asked when requests come, not before.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        policies: PolicyService,
        tokens: TokenService,
        mounts: MountTable,
        approvals: ApprovalsSection | None,
        operation: Callable[[str], Operation | None],
    ) -> None:
        self._clock = clock
        self._policies = policies
        self._tokens = tokens
        self._operation = operation
        self.passwords = PasswordPolicies(store)
        self.consents = Consents(
            store,
            tokens,
            policies,
            operation=operation,
            resolve=mounts.resolve,
            operator=OperatorDemands(approvals, KINDS),
        )

        self.explainer = Explainer(policies, KnownHolders(store, tokens))

    def tables(self) -> list[list[Operation]]:
        """The operations."""
        return [
            policy_operations(self._policies, self._tokens, self._clock),
            self.passwords.table(),
            consent_operations(self.consents, self._operation),
            self.explainer.table(),
        ]

    def may_see(self, principal: Principal, path: str) -> bool:
        """Whether anything that a caller may do lies at or below a mount's path."""
        return self._policies.acl_of(principal).reaches(path)

    @property
    def errands(self) -> tuple[Errand, ...]:
        """Periodic work."""
        return (Errand("policy.reap", 60.0, self._policies.expired, lambda _: self._policies.reap()),)
