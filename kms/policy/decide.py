"""The decision itself: compiled rules, a path, a capability, the arguments; nothing else.

The order of the checks, as the peer makes them:

1. root may do anything; an auditor may do what reads evidence.
2. The most specific pattern for the path decides; no pattern, no right.
3. It must grant the capability; deny grants nothing.
4. Operations marked sudo need sudo in the same pattern.
5. Bounds on response wrapping hold.
6. For read, create, update and patch: required, then denied, then allowed parameters; for list: the page.

Where rules have conditions, 2 to 6 look at those rules of the pattern whose conditions hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kms.operation import Capability
from kms.policy.auditor import AUDITOR
from kms.policy.compiler import Acl
from kms.policy.conditions import Context
from kms.policy.durations import parse_seconds
from kms.policy.model import DENY, SUDO, Scalar
from kms.policy.union import Compiled, Decision, Limits

_ROOT = Decision(allowed=True, rule="root:*", why="root")
_AUDITOR = Decision(allowed=True, rule=f"{AUDITOR}:*", why="auditor")
_NO_RULE = Decision(allowed=False, rule="", why="no_rule")
_NOT_CANONICAL = Decision(allowed=False, rule="", why="path")
_WITH_PARAMETERS = frozenset({Capability.READ, Capability.CREATE, Capability.UPDATE, Capability.PATCH})


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the client sent, for rules about parameters.

    Args:
        values: by field name, defaults among them.
        given: the names that were really sent.
        bound: those of them that are part of the path, and so no parameters.
        extra: what was sent besides: names that the operation does not know, and whole documents.
        wrap_ttl: seconds, 0 for no wrapping.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=dict)
    wrap_ttl: int = 0


_NOTHING = Arguments()
_UNKNOWN = Context()


def decide(
    acl: Acl,
    path: str,
    capability: Capability,
    *,
    sudo: bool = False,
    evidence: bool = False,
    arguments: Arguments = _NOTHING,
    context: Context = _UNKNOWN,
) -> Decision:
    """Whether `path` may be used for `capability`.

    Args:
        acl: the caller's compiled policies.
        path: canonical, without a leading slash. One with '..' or '//' is refused here as well: a
            door that forgot to clean it must not open a way round a rule (CVE-2026-3605).
        capability: as decided before: create and update are different rights.
        sudo: the operation is one of those that need the sudo capability too.
        evidence: the operation is one of those by which auditors read.
        arguments: for rules about parameters and wrapping.
        context: for rules with conditions.
    """
    if acl.root:
        return _ROOT
    if evidence and acl.auditor and _canonical(path):
        return _AUDITOR
    found = deciding(acl, path, capability)
    if found is None:
        return _NO_RULE
    if found.conditional is not None:
        found = found.under(context)
    decision = found.allow.get(capability, found.refuse)
    if not decision.allowed:
        return decision
    return _obstacle(found, path, capability, sudo=sudo, arguments=arguments) or decision


def deciding(acl: Acl, path: str, capability: Capability) -> Compiled | None:
    """The most specific pattern for a request, whatever it grants."""
    if capability is Capability.LIST:
        return acl.find(path if path.endswith("/") else path + "/", listing=True)
    return acl.find(path)


def _obstacle(
    found: Compiled, path: str, capability: Capability, *, sudo: bool, arguments: Arguments
) -> Decision | None:
    """The refusal of a request whose capability is granted, or None."""
    if not _canonical(path):
        return _NOT_CANONICAL
    if sudo and not found.sudo:
        return found.no_sudo
    limits = found.limits
    if limits is None:
        return None
    if not _wrapping_kept(limits, arguments.wrap_ttl):
        return found.bad_wrapping
    if capability in _WITH_PARAMETERS:
        return None if _parameters_kept(limits, arguments) else found.bad_parameters
    paged = capability is Capability.LIST and limits.pagination_limit
    return found.bad_pagination if paged and not _page_kept(limits, arguments) else None


def capabilities(acl: Acl, path: str, context: Context = _UNKNOWN) -> list[str]:
    """What `sys/capabilities` answers: sorted names, ["root"], or ["deny"] for nothing at all."""
    if acl.root:
        return ["root"]
    path = path.lstrip("/")
    # As the peer does: looked up like a list, so that a rule for "app" answers for "app/".
    found = acl.find(path, listing=True)
    found = found.under(context) if found is not None else None
    return sorted(found.grants) if found is not None and found.grants and _canonical(path) else [DENY]


def has_sudo(acl: Acl, path: str, context: Context = _UNKNOWN) -> bool:
    """Whether the rule for `path` carries sudo: some arguments of token creation need it."""
    if acl.root:
        return True
    found = acl.find(path)
    return found is not None and SUDO in found.under(context).grants


def _canonical(path: str) -> bool:
    if "//" in path or path.startswith("/"):
        return False
    if "/." not in path and not path.startswith("."):
        return True
    return not {".", ".."} & set(path.split("/"))


def _wrapping_kept(limits: Limits, ttl: int) -> bool:
    least, most = limits.min_wrapping_ttl, limits.max_wrapping_ttl
    if not least and not most:
        return True
    # Uniting rules may leave most < least; then nothing passes, as on the peer.
    return bool(ttl) and ttl >= least and (not most or ttl <= most)


def _parameters_kept(limits: Limits, arguments: Arguments) -> bool:
    known = arguments.given - arguments.bound
    # Not in another spelling: an operation does not know a field by that.
    if not all(name in known or name in arguments.extra for name in limits.required):
        return False
    sent = [(name.lower(), arguments.values.get(name)) for name in known]
    if arguments.extra:
        sent += [(name.lower(), value) for name, value in arguments.extra.items()]
    if not sent:
        return True
    return not _any_denied(limits.denied, sent) and _all_allowed(limits.allowed, sent)


def _page_kept(limits: Limits, arguments: Arguments) -> bool:
    """Whether a page is asked for that is not too long. None, or 0, gets the longest (the caller sees to that)."""
    if "limit" not in arguments.given and "limit" not in arguments.extra:
        return "limit" not in limits.required
    asked = page_size(arguments)
    return asked is not None and 0 <= asked <= limits.pagination_limit


def page_size(arguments: Arguments) -> int | None:
    """The parameter `limit`: 0 when it is not given or "max", None when it is no number."""
    value = arguments.values.get("limit") if "limit" in arguments.given else arguments.extra.get("limit", 0)
    if value == "max":
        return 0
    return int(value) if isinstance(value, int | str) and str(value).removeprefix("-").isdecimal() else None


def _any_denied(denied: Mapping[str, tuple[Scalar, ...]], sent: Iterable[tuple[str, Any]]) -> bool:
    return "*" in denied or any(name in denied and _denies(denied[name], value) for name, value in sent)


def _all_allowed(allowed: Mapping[str, tuple[Scalar, ...]], sent: Iterable[tuple[str, Any]]) -> bool:
    others = not allowed or "*" in allowed
    return all(
        (not allowed[name] or _permits(allowed[name], value)) if name in allowed else others
        for name, value in sent
    )


def _permits(listed: tuple[Scalar, ...], value: Any) -> bool:
    # A list is permitted when each of its items is. The peer compares the whole list and so refuses
    # every list; doors turn "a" into ["a"] here, so comparing items is the nearest safe meaning.
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(any(_same(want, item) for want in listed) for item in items)


def _denies(listed: tuple[Scalar, ...], value: Any) -> bool:
    if not listed:
        return True
    # One forbidden item forbids the list; comparing the whole would let ["root"] past a rule on "root".
    items = value if isinstance(value, list) else [value]
    return any(_same(want, item) for want in listed for item in items)


def _same(want: Scalar, item: Any) -> bool:
    """Whether a value in a rule means the same as an argument, however either is spelled ("1h", 3600)."""
    if isinstance(item, str) and isinstance(want, str):
        return _glob(want, item)
    if isinstance(want, bool) or isinstance(item, bool):
        return _text(want) == _text(item)
    if isinstance(item, int) and isinstance(want, str):
        try:
            return parse_seconds(want) == item
        except ValueError:
            return want == str(item)
    return _text(want) == _text(item)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _glob(want: str, text: str) -> bool:
    if len(want) < 2:
        return want == text
    if want.startswith("*") and want.endswith("*"):
        return want[1:-1] in text
    if want.startswith("*"):
        return text.endswith(want[1:])
    if want.endswith("*"):
        return text.startswith(want[:-1])
    return want == text
