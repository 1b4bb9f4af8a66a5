"""sys/internal/ui/resultant-acl and its neighbour: what a caller's own policies come to."""

from __future__ import annotations

from typing import Any

from kms.operation import Call, Capability, Operation, Result
from kms.policy import PolicyService
from kms.policy.union import Compiled


class ResultantHandlers:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, policies: PolicyService) -> None:
        self._policies = policies

    def acl(self, call: Call) -> Result:
        """Every rule that is in force for the caller: united, templates filled in."""
        acl = self._policies.acl_of(call.principal)
        if acl.root:
            return Result({"root": True})
        exact: dict[str, Any] = {}
        globs: dict[str, Any] = {}
        here = self._policies.context(call.principal, call.peer)
        for compiled, is_exact in acl.patterns():
            (exact if is_exact else globs)[compiled.pattern.removesuffix("*")] = _shown(compiled.under(here))
        return Result({"root": False, "exact_paths": exact, "glob_paths": globs})

    def table(self) -> list[Operation]:
        """The operations."""
        return [Operation("sys.internal.acl", Capability.READ, self.acl)]


def _shown(compiled: Compiled) -> dict[str, Any]:
    shown: dict[str, Any] = {"capabilities": sorted(compiled.grants) or ["deny"]}
    limits = compiled.limits
    if limits is None:
        return shown
    bounds = (
        ("min_wrapping_ttl", limits.min_wrapping_ttl),
        ("max_wrapping_ttl", limits.max_wrapping_ttl),
        ("allowed_parameters", {name: list(values) for name, values in limits.allowed.items()}),
        ("denied_parameters", {name: list(values) for name, values in limits.denied.items()}),
        ("required_parameters", sorted(limits.required)),
    )
    return shown | {name: value for name, value in bounds if value}
