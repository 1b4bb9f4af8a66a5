"""Which grants nobody used: patterns of policies that decided no request, by an audit log read offline.

The log has to be checked first (`keystead audit verify`); here its lines are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kms.errors import invalid
from kms.policy import PolicyDocument
from kms.policy.model import DENY

_TEMPLATE = re.compile(r"\{\{.*?\}\}")


class _Said(msgspec.Struct):
    rule: str = ""


class _Line(msgspec.Struct):
    event: _Said | None = None
    wall: float = 0.0


def last_uses(folder: Path) -> dict[tuple[str, str], float]:
    """(policy, pattern) -> when it last allowed or denied a request, seconds since the epoch."""
    found: dict[tuple[str, str], float] = {}
    decoder = msgspec.json.Decoder(_Line)
    segments = folder / "segments"
    if not segments.is_dir():
        raise invalid(f"{folder} is no audit folder: there is no {segments}")
    for path in sorted(segments.glob("*.jsonl")):
        with path.open("rb") as file:
            for raw in file:
                if b'"rule"' not in raw:
                    continue
                try:
                    line = decoder.decode(raw)
                except msgspec.DecodeError:
                    continue  # the last line of a segment may be torn; `audit verify` says so
                if line.event is not None:
                    _note(found, line.event.rule, line.wall)
    return found


def _note(found: dict[tuple[str, str], float], rule: str, at: float) -> None:
    names, separator, pattern = rule.partition(":")
    for name in names.split("+") if separator else ():
        found[name, pattern] = max(found.get((name, pattern), 0.0), at)


def unused_grants(
    folder: Path, documents: Mapping[str, PolicyDocument], since: float
) -> list[dict[str, Any]]:
    """Patterns that grant something and decided nothing since then, each with its last use before (0: none)."""
    used = last_uses(folder)
    rows = []
    for name, path in sorted(_granting(documents)):
        last = _last(used, name, path)
        if last < since:
            rows.append({"policy": name, "path": path, "last": last})
    return rows


def _last(used: Mapping[tuple[str, str], float], policy: str, path: str) -> float:
    if "{{" not in path:
        return used.get((policy, path), 0.0)
    # The log has the pattern as it was for one identity.
    parts = (re.escape(part) for part in _TEMPLATE.split(path))
    like = re.compile("[^/]+".join(parts))
    return max(
        (at for (name, one), at in used.items() if name == policy and like.fullmatch(one)), default=0.0
    )


def _granting(documents: Mapping[str, PolicyDocument]) -> Iterable[tuple[str, str]]:
    return {
        (name, rule.path)
        for name, document in documents.items()
        for rule in document.rules
        if rule.grants and DENY not in rule.grants
    }
