"""Whether what is demanded has been consented to. Pure but for the groups that people are in now."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kms.identity.consent.model import Approval, Waiting
from kms.policy.model import ControlGroup, Factor

DEFAULT_TTL = 86_400
"""Seconds that a request waits where its group does not say."""


def lifetime(groups: Iterable[ControlGroup], most: int) -> int:
    """Seconds that a request waits: the least that any group allows."""
    return min([group.ttl for group in groups if group.ttl] + [most or DEFAULT_TTL])


def missing(
    waiting: Waiting,
    groups: Iterable[ControlGroup],
    capability: str,
    now: float,
    groups_now: Callable[[str], tuple[str, ...] | None],
) -> list[str]:
    """What still lacks, a sentence for each factor; empty when the request may go on.

    Args:
        waiting: the request with the consent that it has.
        groups: what is demanded of it.
        capability: of the request; factors that do not speak of it do not count.
        now: seconds since the epoch.
        groups_now: the groups that an entity is in at this moment, None for one that is disabled or gone.
    """
    lacking = []
    for group in groups:
        for factor in group.factors:
            if capability not in factor.capabilities:
                continue
            given = [
                one for one in waiting.approvals if _counts(one, waiting, group, factor, now, groups_now)
            ]
            if len(given) < factor.approvals:
                lacking.append(f"'{factor.name}' has {len(given)} of {factor.approvals} approvals")
    return lacking


def _counts(
    approval: Approval,
    waiting: Waiting,
    group: ControlGroup,
    factor: Factor,
    now: float,
    groups_now: Callable[[str], tuple[str, ...] | None],
) -> bool:
    if not group.self_allowed and set(approval.persons) & set(waiting.persons):
        return False
    if approval.at + (group.ttl or DEFAULT_TTL) <= now:
        return False
    groups = groups_now(approval.entity_id)
    return groups is not None and concerns(factor, approval.policies, groups)


def concerns(factor: Factor, policies: Iterable[str], groups: Iterable[str]) -> bool:
    """Whether somebody with these policies and groups is one of those whose consent the factor asks for."""
    return bool(set(factor.policies) & set(policies)) or bool(set(factor.groups) & set(groups))
