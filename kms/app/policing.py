"""What decides, explains and restrains, beside the policies themselves: built here for `kms.app.process`."""

from __future__ import annotations

from typing import Any

from kms.clock import Clock
from kms.identity import TokenService
from kms.jobs.maintenance import Errand
from kms.operation import Operation
from kms.policy import PolicyService
from kms.policy import operations as policy_operations
from kms.policy.passwordadmin import PASSWORDS, PasswordPolicies
from kms.policy.store import POLICIES
from kms.tables import Store, Table

TABLES: tuple[Table[Any], ...] = (POLICIES, PASSWORDS)
"""All of them: sealed, and looked through at the start."""


class Policing:
    """One per process."""

    def __init__(self, store: Store, clock: Clock, policies: PolicyService, tokens: TokenService) -> None:
        self._clock = clock
        self._policies = policies
        self._tokens = tokens
        self.passwords = PasswordPolicies(store)

    def tables(self) -> list[list[Operation]]:
        """The operations."""
        return [policy_operations(self._policies, self._tokens, self._clock), self.passwords.table()]

    @property
    def errands(self) -> tuple[Errand, ...]:
        """Periodic work."""
        return (Errand("policy.reap", 60.0, self._policies.expired, lambda _: self._policies.reap()),)
