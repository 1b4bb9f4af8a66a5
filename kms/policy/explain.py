"""Why a request is allowed or denied, and what policies grant. Pure: the verdict is `decide`'s own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from kms.namespaces import unscoped
from kms.operation import Capability
from kms.policy.auditor import AUDITOR
from kms.policy.compiler import Acl
from kms.policy.conditions import Context, unmet
from kms.policy.decide import Arguments, decide, deciding
from kms.policy.model import ControlGroup, Rule
from kms.policy.union import Compiled, Decision, applies

REASONS: Final = {
    "root": "the root policy allows everything",
    "granted": "a rule grants it",
    "auditor": "the built-in policy 'auditor' reads all evidence, whatever other policies say",
    "no_rule": "no rule matches the path, and what is not granted is denied",
    "deny": "the rule that decides denies it; deny wins among rules of one pattern",
    "capability": "the rule that decides does not grant this capability",
    "sudo": "the operation needs sudo as well, and the rule that decides does not grant it",
    "parameters": "a parameter is missing, denied, or not among those that are allowed",
    "wrapping": "the answer must be wrapped, for a time within the rule's bounds",
    "pagination": "the rule allows shorter pages only, or wants a limit to be given",
    "condition": "a rule would grant it, and its conditions do not hold",
    "consent": "it needs the consent of others, and a part of another request cannot wait for that",
    "path": "the path is not in its canonical spelling",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to be explained, as `decide` takes it."""

    path: str
    capability: Capability
    sudo: bool = False
    evidence: bool = False
    arguments: Arguments = field(default_factory=Arguments)
    context: Context = field(default_factory=Context)


def verdict(acl: Acl, asked: Asked) -> Decision:
    """The decision itself."""
    return decide(
        acl,
        asked.path,
        asked.capability,
        sudo=asked.sudo,
        evidence=asked.evidence,
        arguments=asked.arguments,
        context=asked.context,
    )


def explain(acl: Acl, asked: Asked) -> dict[str, Any]:
    """The decision, the rules that made it, and those that would have matched and did not count."""
    decision = verdict(acl, asked)
    found = None if acl.root else deciding(acl, asked.path, asked.capability)
    overruled = [] if acl.root else [one for one in acl.matching(asked.path) if one is not found]
    told: dict[str, Any] = {
        "allowed": decision.allowed,
        "why": decision.why,
        "reason": REASONS[decision.why],
        "rule": decision.rule,
        "path": asked.path,
        "capability": asked.capability.value,
        "pattern": found.pattern if found is not None else "",
        "rules": [_rule(name, rule, asked.context) for name, rule in found.parts]
        if found is not None
        else [],
        "overruled": sorted(one.pattern for one in overruled),
    }
    if decision.control:
        told["consent"] = [factor for group in decision.control for factor in _factors(group)]
    return told


def _rule(policy: str, rule: Rule, context: Context) -> dict[str, Any]:
    told: dict[str, Any] = {
        "policy": policy,
        "capabilities": list(rule.grants),
        "applies": applies(rule, context),
    }
    if rule.conditions is not None:
        told["unmet"] = unmet(rule.conditions, context)
    demands = {
        "allowed_parameters": sorted(rule.allowed or {}),
        "denied_parameters": sorted(rule.denied or {}),
        "required_parameters": list(rule.required),
        "min_wrapping_ttl": rule.min_wrapping_ttl,
        "max_wrapping_ttl": rule.max_wrapping_ttl,
        "pagination_limit": rule.pagination_limit,
    }
    return told | {name: value for name, value in demands.items() if value}


def _factors(group: ControlGroup) -> list[dict[str, Any]]:
    return [
        {
            "factor": factor.name,
            "approvals": factor.approvals,
            "group_names": [unscoped(name)[1] for name in factor.groups],
            "policy_names": [unscoped(name)[1] for name in factor.policies],
        }
        for factor in group.factors
    ]


def grants(acl: Acl, context: Context) -> list[dict[str, Any]]:
    """Every pattern of an Acl and what it grants in this context, sorted."""
    if acl.root:
        return [{"path": "*", "capabilities": ["root"], "policies": ["root"], "conditional": False}]
    evidence = {
        "path": "(all evidence)",
        "capabilities": ["read"],
        "policies": [AUDITOR],
        "conditional": False,
    }
    return ([evidence] if acl.auditor else []) + [
        _granted(one, context)
        for one in sorted((found for found, _ in acl.patterns()), key=lambda one: one.pattern)
    ]


def _granted(found: Compiled, context: Context) -> dict[str, Any]:
    return {
        "path": found.pattern,
        "capabilities": sorted(found.under(context).grants),
        "policies": list(dict.fromkeys(name for name, _ in found.parts)),
        "conditional": found.conditional is not None,
    }
