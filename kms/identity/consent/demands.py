"""What the operator's configuration demands, whoever asks, root too. No API changes it.

[approvals]
approvals = 2
operations = ["destroy", "export", "rotate-root"]
paths = ["transit/keys/+/config"]
groups = ["custodians"]
policies = ["custodian"]
max_ttl = "8h"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kms.config.sections import ApprovalsSection, Kind
from kms.operation import ROOT_NAMESPACE, Capability
from kms.policy import PolicyDocument, Rule, compile_acl
from kms.policy.consent import CONTROLLABLE, within
from kms.policy.decide import deciding
from kms.policy.model import ControlGroup, Factor


class OperatorDemands:
    """A section, compiled.

    Args:
        section: what the operator wrote, None for no demand.
        kinds: kind -> names of its operations.
    """

    def __init__(self, section: ApprovalsSection | None, kinds: Mapping[Kind, Iterable[str]]) -> None:
        section = section or ApprovalsSection()
        self.max_ttl = section.max_seconds
        every = tuple(sorted(CONTROLLABLE))
        factor = Factor(
            name="operator",
            capabilities=every,
            groups=section.groups,
            policies=tuple(name.lower() for name in section.policies),
            approvals=section.approvals,
        )
        control = within(ControlGroup(factors=(factor,)), ROOT_NAMESPACE)
        self._groups = (control,) if control is not None else ()
        self._operations = {name for kind in section.operations for name in kinds[kind]}
        rules = tuple(Rule(path=path, grants=every) for path in section.paths)
        self._paths = compile_acl({"operator": PolicyDocument(rules=rules)})

    def of(self, operation: str, path: str) -> tuple[ControlGroup, ...]:
        """Whose consent the operator demands for an operation on a path."""
        if operation in self._operations or deciding(self._paths, path, Capability.READ) is not None:
            return self._groups
        return ()
