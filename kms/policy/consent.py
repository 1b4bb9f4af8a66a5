"""The block `control_group` of a rule: whose consent a request needs, as the peer writes it.

    control_group {
      ttl = "4h"
      factor "custodians" {
        controlled_capabilities = ["update", "delete"]
        identity { group_names = ["custodians"] approvals = 2 }
      }
    }

`identity` takes `policy_names` as well: holders of one of these policies may consent, where there are no groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from kms.namespaces import scoped
from kms.operation import NamespaceRef
from kms.policy._hcl import Block, Pairs
from kms.policy.durations import parse_seconds
from kms.policy.model import ControlGroup, Factor

CONTROLLABLE: Final = frozenset({"create", "read", "update", "patch", "delete", "list", "scan"})
MAX_FACTORS: Final = 16
MAX_APPROVALS: Final = 64
_MAX_NAMES: Final = 256


def read_control_group(value: Any) -> ControlGroup:
    """The block as written. Raises ValueError: incomplete, or with something in it that we do not know."""
    held = _once(value, {"ttl", "self_auth_allowed"}, "control_group", many="factor")
    factors = tuple(_factor(label, body) for label, body in _labelled(value))
    if not factors:
        raise ValueError("control_group requires at least one factor but had none")
    if len(factors) > MAX_FACTORS:
        raise ValueError(f"control_group has more than {MAX_FACTORS} factors")
    try:
        ttl = parse_seconds(held["ttl"]) if "ttl" in held else 0
    except ValueError as error:
        raise ValueError(f"control_group: invalid ttl: {error}") from error
    allowed = held.get("self_auth_allowed", False)
    if not isinstance(allowed, bool):
        raise ValueError("self_auth_allowed must be true or false")  # noqa: TRY004  (one error type)
    return ControlGroup(factors=factors, ttl=ttl, self_allowed=allowed)


def within(control: ControlGroup | None, namespace: NamespaceRef) -> ControlGroup | None:
    """The block as a policy of a namespace means it: its groups and policies are those of that namespace.

    They are called as row keys are, so that a group of the same name elsewhere never counts.
    """
    if control is None:
        return control
    factors = tuple(
        replace(
            factor,
            groups=tuple(scoped(namespace, name) for name in factor.groups),
            policies=tuple(scoped(namespace, name) for name in factor.policies),
        )
        for factor in control.factors
    )
    return replace(control, factors=factors)


def _once(value: Any, known: set[str], what: str, *, many: str = "") -> dict[str, Any]:
    if not isinstance(value, Pairs):
        raise ValueError(f"{what} must be a block")  # noqa: TRY004  (one error type for all faults)
    held: dict[str, Any] = {}
    for name, given in value:
        if name == many:
            continue
        if name not in known:
            raise ValueError(f"{what}: invalid key {name!r}")
        if name in held:
            raise ValueError(f"{what}: '{name}' is given twice")
        held[name] = given
    return held


def _labelled(value: Pairs) -> Iterator[tuple[str, Any]]:
    for name, given in value:
        if name != "factor":
            continue
        if isinstance(given, Block):
            yield given[0], given[1]
        elif isinstance(given, Pairs) and all(isinstance(body, Pairs) for _, body in given) and given:
            yield from given  # JSON: {"factor": {"name": {...}}}
        else:
            raise ValueError("control_group factor: require name key")


def _factor(name: str, body: Any) -> Factor:
    held = _once(body, {"controlled_capabilities", "identity"}, f"factor {name!r}")
    capabilities = _names(held.get("controlled_capabilities", []), "controlled_capabilities")
    if not capabilities:
        raise ValueError(f"factor {name!r}: missing controlled capabilities")
    unknown = set(capabilities) - CONTROLLABLE
    if unknown:
        raise ValueError(f"factor {name!r}: Operation(s) not valid: {', '.join(sorted(unknown))}")
    known = {"group_names", "group_ids", "policy_names", "approvals"}
    identity = _once(held.get("identity", Pairs()), known, f"factor {name!r} identity")
    approvals = identity.get("approvals", 0)
    if isinstance(approvals, bool) or not isinstance(approvals, int) or not 0 < approvals <= MAX_APPROVALS:
        raise ValueError(f"factor {name!r}: missing required approvals (1 to {MAX_APPROVALS})")
    groups = tuple(
        entry for key in ("group_names", "group_ids") for entry in _names(identity.get(key, []), key)
    )
    policies = tuple(entry.lower() for entry in _names(identity.get("policy_names", []), "policy_names"))
    if not groups and not policies:
        raise ValueError(f"factor {name!r}: missing approving groups")
    return Factor(
        name=name,
        capabilities=tuple(sorted(set(capabilities))),
        groups=groups,
        policies=policies,
        approvals=approvals,
    )


def _names(value: Any, what: str) -> list[str]:
    if isinstance(value, Pairs) or not isinstance(value, list) or len(value) > _MAX_NAMES:
        raise ValueError(f"{what} must be a list")
    if not all(isinstance(entry, str) and entry for entry in value):
        raise ValueError(f"{what} must hold strings only")
    return value
