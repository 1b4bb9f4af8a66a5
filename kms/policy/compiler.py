"""Policies, compiled for lookup.

The peer's order of patterns, and how it becomes dictionary lookups:

1. An exact pattern decides alone: one dictionary.
2. Else the pattern whose first wildcard stands furthest right. Text before the first wildcard (the
   *head*) must open the path, so patterns are kept by head, and heads are tried longest first. There
   are never more tries than different head lengths, however many rules there are.
3. Among patterns of one head: one without a last `*` before one with it; fewer `+` segments; longer
   text; lexicographically greater. They are sorted so once, and the first that matches decides.

Rules of the same pattern, over all policies, become one: capabilities add up, deny takes everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kms.errors import ErrorKind, KmsError
from kms.policy.model import DENY, SUDO, PolicyDocument, Rule, Scalar

_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")
# GHSA-59w7: identity metadata that reads as pattern syntax would widen a templated rule.
_UNSAFE = re.compile(r"[*+/,\x00-\x20\x7f]")
_MEMO_SIZE = 256
_MEMO_PATH = 256


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request may go on.

    Args:
        rule: "<policy>[+<policy>...]:<pattern>", which the audit record keeps; "" when no rule matched.
        why: a word for reports: granted, root, no_rule, deny, capability, sudo, parameters, wrapping, path.
    """

    allowed: bool
    rule: str
    why: str


@dataclass(slots=True)
class Limits:
    """What a pattern demands beyond the capability. Names are in lower case."""

    allowed: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    denied: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    min_wrapping_ttl: int = 0
    max_wrapping_ttl: int = 0


@dataclass(frozen=True, slots=True)
class Compiled:
    """One pattern's united rules. Decisions are made beforehand, so that deciding allocates nothing."""

    pattern: str
    grants: frozenset[str]
    allow: dict[str, Decision]
    refuse: Decision
    no_sudo: Decision
    bad_parameters: Decision
    bad_wrapping: Decision
    limits: Limits | None

    @property
    def sudo(self) -> bool:
        """Whether the rule carries sudo."""
        return SUDO in self.grants


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A pattern with wildcards: its segments before a last `*`, which `prefix` stands for."""

    segments: tuple[str, ...]
    prefix: bool
    compiled: Compiled

    def matches(self, parts: list[str]) -> bool:
        count = len(self.segments)
        if len(parts) < count or (not self.prefix and len(parts) != count):
            return False
        last = count - 1
        for place, (segment, part) in enumerate(zip(self.segments, parts, strict=False)):
            if segment not in {"+", part} and not (
                self.prefix and place == last and part.startswith(segment)
            ):
                return False
        return True

    def reaches(self, parts: list[str], folder: str) -> bool:
        """Whether the pattern can match something below the folder of these segments."""
        if self.segments == ("",):
            return self.compiled.pattern.startswith(folder)
        return len(self.segments) > len(parts) and all(
            segment in {"+", part} for segment, part in zip(self.segments, parts, strict=False)
        )


class Acl:
    """The compiled rules of one set of policies. Immutable but for a bounded memo of found patterns."""

    __slots__ = ("_exact", "_heads", "_lengths", "_memo", "root")

    def __init__(
        self, exact: dict[str, Compiled], heads: dict[str, tuple[_Pattern, ...]], *, root: bool
    ) -> None:
        self.root = root
        self._exact = exact
        self._heads = heads
        self._lengths = tuple(sorted({len(head) for head in heads}, reverse=True))
        self._memo: dict[tuple[str, bool], Compiled | None] = {}

    def find(self, path: str, *, listing: bool = False) -> Compiled | None:
        """The pattern that decides for `path`.

        Args:
            path: without a leading slash.
            listing: also try the path without its last slash, as a list does: a rule for "app" governs
                the listing of "app/".
        """
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        key = (path, listing)
        if key in self._memo:
            return self._memo[key]
        found = self._search(path, listing=listing)
        if len(path) <= _MEMO_PATH:
            if len(self._memo) >= _MEMO_SIZE:
                self._memo.clear()
            self._memo[key] = found
        return found

    def reaches(self, prefix: str) -> bool:
        """Whether any rule grants anything at `prefix` or below: who may see that a mount is there.

        Walks all rules; for listings, not for decisions.
        """
        if self.root or any(
            path.startswith(prefix) and compiled.grants - {DENY} for path, compiled in self._exact.items()
        ):
            return True
        return any(
            (head.startswith(prefix) or prefix.startswith(head)) and pattern.compiled.grants - {DENY}
            for head, patterns in self._heads.items()
            for pattern in patterns
        )

    def covers(self, folder: str) -> bool:
        """Whether anything at or below `folder` (a mount path, with its last slash) is granted.

        For listings of mounts only: it looks at every pattern.
        """
        if self.root:
            return True
        here = self.find(folder)
        if here is not None and here.allow:
            return True
        parts = folder.removesuffix("/").split("/")
        return any(path.startswith(folder) and found.allow for path, found in self._exact.items()) or any(
            pattern.compiled.allow and pattern.reaches(parts, folder)
            for patterns in self._heads.values()
            for pattern in patterns
        )

    def _search(self, path: str, *, listing: bool) -> Compiled | None:
        if listing and path.endswith("/"):
            bare = path[:-1]
            # The folder's own pattern first: a rule without the slash must not undo a deny on it
            # (GHSA-xp3c, where LIST escaped a deny).
            return self._exact.get(bare) or self._wildcard(path) or self._wildcard(bare)
        return self._wildcard(path)

    def _wildcard(self, path: str) -> Compiled | None:
        parts: list[str] | None = None
        for length in self._lengths:
            patterns = self._heads.get(path[:length]) if length <= len(path) else None
            if patterns is None:
                continue
            parts = parts or path.split("/")
            for pattern in patterns:
                if pattern.matches(parts):
                    return pattern.compiled
        return None


def compile_acl(
    policies: Mapping[str, PolicyDocument], values: Mapping[str, str] | None = None, *, root: bool = False
) -> Acl:
    """Unite policies into one Acl.

    Args:
        policies: name -> document, in the order in which rules name them.
        values: what `{{name}}` stands for, for the caller's identity. A rule with a name that has no
            value applies to nobody and is left out, as the peer does.
        root: the caller holds the root policy: everything is allowed.

    Raises:
        KmsError(DENIED): a value would change the meaning of a pattern (T-46). Nothing is allowed then,
            because leaving out the rule might leave out a deny.
    """
    united: dict[str, _Union] = {}
    for name, document in policies.items():
        for rule in document.rules:
            path = _fill(rule.path, values or {})
            if path is not None:
                united.setdefault(path, _Union(path)).add(name, rule)
    exact: dict[str, Compiled] = {}
    heads: dict[str, list[_Pattern]] = {}
    for path, union in united.items():
        segmented = path == "+" or "/+" in path or path.startswith("+/")
        if not segmented and not path.endswith("*"):
            exact[path] = union.compiled()
            continue
        bare = path.removesuffix("*")
        head = bare[: bare.index("+")] if segmented else bare
        pattern = _Pattern(tuple(bare.split("/")), path.endswith("*"), union.compiled())
        if not segmented:
            # A '+' inside a segment is literal here, and so is every segment: the head is all.
            pattern = _Pattern(("",), prefix=True, compiled=pattern.compiled)
        heads.setdefault(head, []).append(pattern)
    ordered = {head: tuple(sorted(found, key=_priority, reverse=True)) for head, found in heads.items()}
    return Acl(exact, ordered, root=root)


def _priority(pattern: _Pattern) -> tuple[bool, int, int, str]:
    text = pattern.compiled.pattern.removesuffix("*")
    plain = pattern.segments == ("",)
    wildcards = 0 if plain else sum(segment == "+" for segment in pattern.segments)
    return (not pattern.prefix, -wildcards, len(text.encode()), text)


def _fill(path: str, values: Mapping[str, str]) -> str | None:
    if "{{" not in path:
        return path
    names = [name.strip() for name in _TEMPLATE.findall(path)]
    if any(not values.get(name) for name in names):
        return None
    for name in names:
        if _UNSAFE.search(values[name]):
            raise KmsError(
                ErrorKind.DENIED, f"the value of '{name}' cannot stand in a policy path; change the identity"
            )
    return _TEMPLATE.sub(lambda match: values[match[1].strip()], path)


class _Union:
    """Rules of one pattern, being united."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._policies: dict[str, list[str]] = {}
        self._limits = Limits()

    def add(self, policy: str, rule: Rule) -> None:
        for grant in rule.grants or ("",):
            names = self._policies.setdefault(grant, [])
            if policy not in names:
                names.append(policy)
        limits = self._limits
        _unite(limits.allowed, rule.allowed or {})
        _unite(limits.denied, rule.denied or {})
        limits.required.update(rule.required)
        # The peer keeps the lesser of two bounds, for the least as well as for the most.
        limits.min_wrapping_ttl = _lesser(limits.min_wrapping_ttl, rule.min_wrapping_ttl)
        limits.max_wrapping_ttl = _lesser(limits.max_wrapping_ttl, rule.max_wrapping_ttl)

    def compiled(self) -> Compiled:
        grants = frozenset(self._policies) - {""}
        denied = DENY in grants
        if denied:
            grants = frozenset({DENY})
        everyone = "+".join(dict.fromkeys(name for names in self._policies.values() for name in names))
        rule = f"{everyone}:{self._pattern}"
        allow = {} if denied else {grant: self._granted(grant) for grant in grants}
        return Compiled(
            pattern=self._pattern,
            grants=grants,
            allow=allow,
            refuse=Decision(
                allowed=False,
                rule=f"{'+'.join(self._policies[DENY])}:{self._pattern}" if denied else rule,
                why=DENY if denied else "capability",
            ),
            no_sudo=Decision(allowed=False, rule=rule, why=SUDO),
            bad_parameters=Decision(allowed=False, rule=rule, why="parameters"),
            bad_wrapping=Decision(allowed=False, rule=rule, why="wrapping"),
            limits=None if self._limits == Limits() else self._limits,
        )

    def _granted(self, grant: str) -> Decision:
        return Decision(
            allowed=True, rule=f"{'+'.join(self._policies[grant])}:{self._pattern}", why="granted"
        )


def _unite(into: dict[str, tuple[Scalar, ...]], more: Mapping[str, Iterable[Scalar]]) -> None:
    for name, values in more.items():
        listed = tuple(values)
        before = into.get(name)
        # No values listed means every value, so it swallows a list.
        into[name] = () if before == () or not listed else (before or ()) + listed


def _lesser(before: int, new: int) -> int:
    return min(before, new) if before and new else before or new
