"""Rules of one pattern, over all policies, become one: capabilities add up, deny takes everything.

What a rule demands besides is united so that less passes: the lesser bound, all required parameters, everybody's
consent; only parameters that are allowed add up, as on the peer. Rules with conditions count where these hold, so
their unions are made for each set of rules that hold together, and remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kms.policy.conditions import Context, refuted, unmet
from kms.policy.model import DENY, SUDO, ControlGroup, Rule, Scalar

_VARIANTS = 64


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request may go on.

    Args:
        rule: "<policy>[+<policy>...]:<pattern>", which the audit record keeps; "" when no rule matched.
        why: a word for reports: granted, root, no_rule, deny, capability, sudo, parameters, wrapping, path,
            pagination, condition, auditor, consent.
        limit: the most keys that a listing may answer, 0 for no bound.
        filter_path: template of what must be readable for a key to be listed, "" for all keys.
        control: whose consent it needs first.
    """

    allowed: bool
    rule: str
    why: str
    limit: int = 0
    filter_path: str = ""
    control: tuple[ControlGroup, ...] = ()


@dataclass(slots=True)
class Limits:
    """What a pattern demands beyond the capability. Names are in lower case."""

    allowed: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    denied: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    min_wrapping_ttl: int = 0
    max_wrapping_ttl: int = 0
    pagination_limit: int = 0


@dataclass(frozen=True, slots=True)
class Compiled:
    """One pattern's united rules. Decisions are made beforehand, so that deciding allocates nothing.

    Args:
        conditional: the rules that it is made of, where some have conditions; `under` tells them apart.
        parts: (policy, rule) of all rules of the pattern.
    """

    pattern: str
    grants: frozenset[str]
    allow: dict[str, Decision]
    refuse: Decision
    no_sudo: Decision
    bad_parameters: Decision
    bad_wrapping: Decision
    bad_pagination: Decision
    limits: Limits | None
    conditional: Conditional | None = None
    parts: tuple[tuple[str, Rule], ...] = ()

    @property
    def sudo(self) -> bool:
        """Whether the rule carries sudo."""
        return SUDO in self.grants

    def under(self, context: Context) -> Compiled:
        """The union of the rules whose conditions hold."""
        return self if self.conditional is None else self.conditional.under(context)


class Conditional:
    """Rules of one pattern of which some have conditions. Immutable but for a bounded memo."""

    def __init__(self, pattern: str, rules: Sequence[tuple[str, Rule]]) -> None:
        self._pattern = pattern
        self._rules = tuple(rules)
        self._memo: dict[tuple[bool, ...], Compiled] = {}

    def under(self, context: Context) -> Compiled:
        """The union of the rules that apply in this context."""
        key = tuple(applies(rule, context) for _, rule in self._rules)
        found = self._memo.get(key)
        if found is None:
            left_out = not all(key)
            chosen = [pair for pair, here in zip(self._rules, key, strict=True) if here]
            found = _united(self._pattern, chosen, everyone=self._rules, left_out=left_out)
            if len(self._memo) >= _VARIANTS:
                self._memo.clear()
            self._memo[key] = found
        return found


def applies(rule: Rule, context: Context) -> bool:
    """Whether a rule counts: its conditions hold or, for a deny, are not known to fail."""
    if rule.conditions is None:
        return True
    return (
        not refuted(rule.conditions, context) if DENY in rule.grants else not unmet(rule.conditions, context)
    )


def unite(pattern: str, rules: Sequence[tuple[str, Rule]]) -> Compiled:
    """The union of (policy, rule) pairs of one pattern, at least one."""
    if all(rule.conditions is None for _, rule in rules):
        return _united(pattern, rules, everyone=rules)
    # What may be, for listings of mounts; decisions ask `under`.
    likely = [(name, rule) for name, rule in rules if rule.conditions is None or DENY not in rule.grants]
    return _united(pattern, likely, everyone=rules, conditional=Conditional(pattern, rules))


def _united(
    pattern: str,
    rules: Sequence[tuple[str, Rule]],
    *,
    everyone: Sequence[tuple[str, Rule]],
    conditional: Conditional | None = None,
    left_out: bool = False,
) -> Compiled:
    policies: dict[str, list[str]] = {}
    for name, rule in rules:
        for grant in rule.grants:
            policies.setdefault(grant, [])
            if name not in policies[grant]:
                policies[grant].append(name)
    denied = DENY in policies
    grants = frozenset({DENY}) if denied else frozenset(policies)
    named = f"{'+'.join(dict.fromkeys(name for name, _ in everyone))}:{pattern}"
    limits = _limits(rule for _, rule in rules)
    return Compiled(
        pattern=pattern,
        grants=grants,
        allow={} if denied else _decisions(pattern, policies, [rule for _, rule in rules], limits),
        refuse=Decision(
            allowed=False,
            rule=f"{'+'.join(policies[DENY])}:{pattern}" if denied else named,
            why=DENY if denied else "condition" if left_out else "capability",
        ),
        no_sudo=Decision(allowed=False, rule=named, why=SUDO),
        bad_parameters=Decision(allowed=False, rule=named, why="parameters"),
        bad_wrapping=Decision(allowed=False, rule=named, why="wrapping"),
        bad_pagination=Decision(allowed=False, rule=named, why="pagination"),
        limits=None if limits == Limits() else limits,
        conditional=conditional,
        parts=tuple(everyone),
    )


def _decisions(
    pattern: str, policies: Mapping[str, list[str]], rules: Sequence[Rule], limits: Limits
) -> dict[str, Decision]:
    lists = [rule.filter_path for rule in rules if rule.filter_path]
    groups = tuple(dict.fromkeys(rule.control_group for rule in rules if rule.control_group is not None))
    return {
        grant: Decision(
            allowed=True,
            rule=f"{'+'.join(names)}:{pattern}",
            why="granted",
            limit=limits.pagination_limit if grant in {"list", "scan"} else 0,
            filter_path=lists[0] if lists and grant in {"list", "scan"} else "",
            control=tuple(
                group for group in groups if any(grant in factor.capabilities for factor in group.factors)
            ),
        )
        for grant, names in policies.items()
    }


def _limits(rules: Iterable[Rule]) -> Limits:
    limits = Limits()
    for rule in rules:
        _merge(limits.allowed, rule.allowed or {})
        _merge(limits.denied, rule.denied or {})
        limits.required.update(rule.required)
        # The peer keeps the lesser of two bounds, for the least as well as for the most.
        limits.min_wrapping_ttl = _lesser(limits.min_wrapping_ttl, rule.min_wrapping_ttl)
        limits.max_wrapping_ttl = _lesser(limits.max_wrapping_ttl, rule.max_wrapping_ttl)
        limits.pagination_limit = _lesser(limits.pagination_limit, rule.pagination_limit)
    return limits


def _merge(into: dict[str, tuple[Scalar, ...]], more: Mapping[str, Iterable[Scalar]]) -> None:
    for name, values in more.items():
        listed = tuple(values)
        before = into.get(name)
        # No values listed means every value, so it swallows a list.
        into[name] = () if before == () or not listed else (before or ()) + listed


def _lesser(before: int, new: int) -> int:
    return min(before, new) if before and new else before or new
