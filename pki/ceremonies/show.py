"""A plan as the witnesses see it: all of it, one value a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pki.validity import iso

_TIMES = frozenset({"not_before", "not_after", "this_update", "next_update", "revoked_at"})


def shown(facts: Mapping[str, Any]) -> list[str]:
    """Aligned lines; times as RFC 3339, lists one element a line."""
    width = max(len(name) for name in facts)
    found = []
    for name, value in facts.items():
        values = value if isinstance(value, list) else [value]
        texts = [iso(one) if name in _TIMES else str(one) for one in values] or ["none"]
        found += [f"  {name if at == 0 else '':{width}}  {text}" for at, text in enumerate(texts)]
    return found
