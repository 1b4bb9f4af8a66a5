"""The deliberate differences, each with its reason; and how one is found."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.differential.sides import Request

ALLOWED = Path(__file__).parent / "allowed.toml"
WANDERING = Path(__file__).parent / "wandering.toml"
Answer = tuple[int, Any]


@dataclass(frozen=True)
class Rule:
    """An entry of allowed.toml. All that is given must match.

    Args:
        request: searched in `Request.shown()`.
        theirs, ours: status codes; 0 for any.
        their_text, our_text: searched in the answer as JSON.
        sometimes: whether it is needed hangs on when background work of the real server ends.
    """

    name: str
    reason: str
    request: re.Pattern[str]
    theirs: int
    ours: int
    their_text: re.Pattern[str]
    our_text: re.Pattern[str]
    sometimes: bool = False

    def covers(self, request: Request, theirs: Answer, ours: Answer) -> bool:
        """Whether this difference is one of these."""
        return (
            self.theirs in (0, theirs[0])
            and self.ours in (0, ours[0])
            and self.request.search(request.shown()) is not None
            and self.their_text.search(json.dumps(theirs[1])) is not None
            and self.our_text.search(json.dumps(ours[1])) is not None
        )


def load(path: Path = ALLOWED) -> list[Rule]:
    """All entries."""
    rules = []
    for name, entry in tomllib.loads(path.read_text()).items():
        unknown = set(entry) - {"reason", "request", "theirs", "ours", "their_text", "our_text", "sometimes"}
        assert not unknown, (name, unknown)
        assert entry["reason"]
        patterns = (re.compile(entry.get(key, "")) for key in ("request", "their_text", "our_text"))
        request, their_text, our_text = patterns
        rules.append(
            Rule(
                name,
                entry["reason"],
                request,
                entry.get("theirs", 0),
                entry.get("ours", 0),
                their_text,
                our_text,
                entry.get("sometimes", False),
            )
        )
    return rules


class Comparison:
    """Collects differences; each is allowed by the first rule that covers it, or none."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules
        self.requests = 0
        self.same = 0
        self.allowed: Counter[str] = Counter()
        self.different: list[str] = []
        self.dropped: list[str] = []  # requests that the real server gave no answer to

    def add(self, request: Request, theirs: Answer, ours: Answer, *, loose: bool = False) -> None:
        """One request's two answers, as `shape` left them.

        Args:
            request: what was asked.
            theirs: status and document.
            ours: the same of our answer.
            loose: two refusals of one status are the same, whatever they say.
        """
        self.requests += 1
        if theirs == ours or (loose and theirs[0] == ours[0] >= 400):
            self.same += 1
            return
        for rule in self._rules:
            if rule.covers(request, theirs, ours):
                self.allowed[rule.name] += 1
                return
        self.different.append(
            f"{request.shown()}\n  theirs {theirs[0]} {json.dumps(theirs[1])[:600]}"
            f"\n  ours   {ours[0]} {json.dumps(ours[1])[:600]}"
        )

    @property
    def unused(self) -> list[str]:
        """Rules that no difference needed."""
        return [rule.name for rule in self._rules if not (rule.sometimes or self.allowed[rule.name])]

    def report(self) -> str:
        """For people."""
        allowed = "".join(f"\n  {number:5} {name}" for name, number in self.allowed.most_common())
        return (
            f"{self.requests} requests: {self.same} answers the same, {sum(self.allowed.values())} differ as "
            f"allowed, {len(self.different)} differ otherwise, {len(self.dropped)} the real server dropped{allowed}"
        )
