"""Which policies a new token gets: nobody hands on what he does not hold. Pure.

The peer's rules, in its order:

1. A role that lists allowed or disallowed policies decides by these lists alone.
2. Without a wish the child gets its parent's policies. A wish of blank names is one for none.
3. Without sudo on the create path, the wish must be a subset of the parent's policies.
4. `default` is added unless that was declined; `root` swallows every other name.
5. Policies of internal use are never handed on; root only by root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kms.errors import invalid
from kms.identity.model import TokenRole
from kms.policy import DEFAULT, NOT_ASSIGNABLE, ROOT, canonical_names


def handed_on(
    wanted: Sequence[str],
    parent: Sequence[str],
    *,
    role: TokenRole | None = None,
    sudo: bool = False,
    no_default: bool = False,
) -> tuple[str, ...]:
    """The new token's policies, canonical and sorted.

    Raises:
        KmsError(INVALID): a name that is none, or a wish beyond what the parent or role may grant.
    """
    wished = canonical_names(wanted)
    if role is not None and role.chooses_policies:  # (1)
        policies = _by_role(wished, parent, role, no_default=no_default)
    elif not wanted:  # (2)
        policies = _sanitized(parent)
    elif sudo:
        policies = _sanitized(wished, add_default=not no_default)
    else:  # (3)
        if not set(_sanitized(wished)) <= set(_sanitized(parent)):
            raise invalid("child policies must be subset of parent")
        policies = _sanitized(wished, add_default=not no_default and DEFAULT in parent)
    if no_default:
        policies = [name for name in policies if name != DEFAULT]
    for name in policies:  # (5)
        if name in NOT_ASSIGNABLE:
            raise invalid(f'cannot assign policy "{name}"')
    if ROOT in policies and ROOT not in parent:
        raise invalid("root tokens may not be created without parent token being root")
    return tuple(policies)


def _sanitized(names: Iterable[str], *, add_default: bool = False) -> list[str]:
    found = set(names)
    if ROOT in found:
        return [ROOT]
    return sorted(found | {DEFAULT} if add_default else found)


def _by_role(wished: Sequence[str], parent: Sequence[str], role: TokenRole, *, no_default: bool) -> list[str]:
    add_default = (
        not no_default
        and not role.token_no_default_policy
        and not _listed(DEFAULT, role.disallowed_policies, role.disallowed_policies_glob)
    )
    policies = _sanitized(wished, add_default=add_default) if wished else []
    if role.allowed_policies or role.allowed_policies_glob:
        allowed = _sanitized(role.allowed_policies, add_default=add_default)
        for name in policies:
            if not _listed(name, allowed, role.allowed_policies_glob):
                raise invalid(
                    f"token policies ({_quoted(policies)}) must be subset of the role's allowed policies "
                    f"({_quoted(allowed)}) or glob policies ({_quoted(role.allowed_policies_glob)})"
                )
        policies = policies or allowed
    else:
        policies = policies or _sanitized(parent, add_default=add_default)
    for name in policies:
        if _listed(name, role.disallowed_policies, role.disallowed_policies_glob):
            raise invalid(f'token policy "{name}" is disallowed by this role')
    return policies


def _listed(name: str, names: Iterable[str], globs: Iterable[str]) -> bool:
    return name in names or any(matches(glob, name) for glob in globs)


def matches(glob: str, name: str) -> bool:
    """Whether `name` fits a glob with any number of `*`. Linear in both, unlike a regular expression."""
    first, *rest = glob.split("*")
    if not rest:
        return glob == name
    if not name.startswith(first):
        return False
    *middle, last = rest
    at = len(first)
    for part in middle:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(name) - at >= len(last) and name.endswith(last)


def _quoted(names: Iterable[str]) -> str:
    return "[" + " ".join(f'"{name}"' for name in names) + "]"
