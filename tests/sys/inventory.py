"""Every route of a server, from its own description, with something for each parameter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_SLOT = re.compile(r"\{([a-z_]+)\}")
WRITES = frozenset({"POST", "PATCH"})


@dataclass(frozen=True)
class Spot:
    """One verb on one path.

    Args:
        template: as described, with `{name}` in it.
        open: whether it may be called without a token.
    """

    verb: str
    template: str
    open: bool
    operation: str

    @property
    def slots(self) -> list[str]:
        """Names of its parameters."""
        return _SLOT.findall(self.template)

    def path(self, values: dict[str, str] | str = "inventory") -> str:
        """With these values, or this one everywhere."""
        return _SLOT.sub(
            lambda slot: values if isinstance(values, str) else values[slot[1]], self.template
        ).lstrip("/")


def spots(document: dict[str, Any]) -> list[Spot]:
    """All of them."""
    found = []
    for template, item in document["paths"].items():
        for method in ("get", "post", "patch", "delete"):
            described = item.get(method)
            if described is None:
                continue
            listing = [one for one in described.get("parameters", ()) if one["name"] == "list"]
            anybody = {} in described.get("security", ())
            if not (listing and listing[0]["required"]):
                found.append(Spot(method.upper(), template, anybody, described["summary"]))
            if listing:
                found.append(Spot("LIST", template, anybody, described["summary"]))
    return found
