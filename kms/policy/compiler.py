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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kms.errors import ErrorKind, KmsError
from kms.policy.model import DENY, PolicyDocument, Rule
from kms.policy.templating import TEMPLATE, UNSAFE
from kms.policy.union import Compiled, unite

_MEMO_SIZE = 256
_MEMO_PATH = 256


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

    __slots__ = ("_exact", "_heads", "_lengths", "_memo", "auditor", "plain", "root", "valid_until")

    def __init__(
        self,
        exact: dict[str, Compiled],
        heads: dict[str, tuple[_Pattern, ...]],
        *,
        root: bool,
        valid_until: float = 0.0,
    ) -> None:
        self.root = root
        self.auditor = False  # the caller holds the built-in policy of that name
        self.valid_until = valid_until  # seconds since the epoch when a rule of it expires, 0 for never
        self._exact = exact
        self._heads = heads
        self._lengths = tuple(sorted({len(head) for head in heads}, reverse=True))
        self._memo: dict[tuple[str, bool], Compiled | None] = {}
        # Whether a path and a capability decide alone: no rule looks at parameters, or at anything else.
        self.plain = all(one.limits is None and one.conditional is None for one, _ in self.patterns())

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

    def matching(self, path: str) -> Iterator[Compiled]:
        """All patterns that match a path, whichever of them decides; for explanations."""
        if path in self._exact:
            yield self._exact[path]
        parts = path.split("/")
        for head, patterns in self._heads.items():
            if path.startswith(head):
                yield from (pattern.compiled for pattern in patterns if pattern.matches(parts))

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

    def patterns(self) -> Iterator[tuple[Compiled, bool]]:
        """All rules, each with whether its pattern is exact; for showing them, not for deciding."""
        for compiled in self._exact.values():
            yield compiled, True
        for patterns in self._heads.values():
            for pattern in patterns:
                yield pattern.compiled, False

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
    policies: Mapping[str, PolicyDocument],
    values: Mapping[str, str] | None = None,
    *,
    root: bool = False,
    now: float = 0.0,
) -> Acl:
    """Unite policies into one Acl.

    Args:
        policies: name -> document, in the order in which rules name them.
        values: what `{{name}}` stands for, for the caller's identity. A rule with a name that has no
            value applies to nobody and is left out, as the peer does.
        root: the caller holds the root policy: everything is allowed.
        now: seconds since the epoch; rules that have expired then are left out.

    Raises:
        KmsError(DENIED): a value would change the meaning of a pattern (T-46). Nothing is allowed then,
            because leaving out the rule might leave out a deny.
    """
    united: dict[str, list[tuple[str, Rule]]] = {}
    expirations: list[float] = []
    for name, path, rule in _rules(policies, values or {}):
        if rule.expiration and rule.expiration <= now:
            continue
        if rule.expiration:
            expirations.append(rule.expiration)
        united.setdefault(path, []).append((name, rule))
    exact: dict[str, Compiled] = {}
    heads: dict[str, list[_Pattern]] = {}
    for path, rules in united.items():
        segmented = path == "+" or "/+" in path or path.startswith("+/")
        if not segmented and not path.endswith("*"):
            exact[path] = unite(path, rules)
            continue
        bare = path.removesuffix("*")
        head = bare[: bare.index("+")] if segmented else bare
        pattern = _Pattern(tuple(bare.split("/")), path.endswith("*"), unite(path, rules))
        if not segmented:
            # A '+' inside a segment is literal here, and so is every segment: the head is all.
            pattern = _Pattern(("",), prefix=True, compiled=pattern.compiled)
        heads.setdefault(head, []).append(pattern)
    ordered = {head: tuple(sorted(found, key=_priority, reverse=True)) for head, found in heads.items()}
    return Acl(exact, ordered, root=root, valid_until=min(expirations, default=0.0))


def _rules(
    policies: Mapping[str, PolicyDocument], values: Mapping[str, str]
) -> Iterator[tuple[str, str, Rule]]:
    for name, document in policies.items():
        for rule in document.rules:
            path = _fill(rule.path, values, document)
            if path is not None:
                yield name, path, rule


def _priority(pattern: _Pattern) -> tuple[bool, int, int, str]:
    text = pattern.compiled.pattern.removesuffix("*")
    plain = pattern.segments == ("",)
    wildcards = 0 if plain else sum(segment == "+" for segment in pattern.segments)
    return (not pattern.prefix, -wildcards, len(text.encode()), text)


def _fill(path: str, values: Mapping[str, str], document: PolicyDocument) -> str | None:
    if "{{" not in path:
        return path
    names = [name.strip() for name in TEMPLATE.findall(path)]
    if any(not values.get(name) for name in names):
        return None
    let_in = ("*+" if document.wildcards else "") + ("/" if document.slashes else "")
    for name in names:
        if UNSAFE.search(values[name].translate({ord(sign): "" for sign in let_in})):
            raise KmsError(
                ErrorKind.DENIED, f"the value of '{name}' cannot stand in a policy path; change the identity"
            )
    return TEMPLATE.sub(lambda match: values[match[1].strip()], path)
