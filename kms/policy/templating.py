"""Values of the caller's identity put into texts that decide something: paths of policies, names of roles.

A value that reads as syntax where it is put would widen the text (GHSA-59w7), so it is refused there, and not escaped:
no place that it goes to has an escape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

TEMPLATE: Final = re.compile(r"\{\{(.*?)\}\}")
UNSAFE: Final = re.compile(r"[*+/,\x00-\x20\x7f]")


class UnrenderableError(Exception):
    """The text cannot be filled in; it says why, and never quotes a value."""


def templated(text: str) -> bool:
    """Whether something is to be put in."""
    return "{{" in text and TEMPLATE.search(text) is not None


def render(text: str, values: Mapping[str, str], let_in: str = "") -> str:
    """The text with its names replaced.

    Args:
        text: with {{names}}, or without.
        values: of the caller's entity.
        let_in: characters that may stand in a value all the same.

    Raises:
        UnrenderableError: a name has no value, or one that would mean more than itself.
    """
    names = [name.strip() for name in TEMPLATE.findall(text)]
    for name in names:
        if not values.get(name):
            raise UnrenderableError("no value could be found for one of the template directives")
        found = UNSAFE.search(values[name].translate({ord(sign): "" for sign in let_in}))
        if found is not None:
            shown = found[0] if found[0].isprintable() else f"\\x{ord(found[0]):02x}"
            raise UnrenderableError(f'template substitution contains forbidden value: "{shown}"')
    return TEMPLATE.sub(lambda match: values[match[1].strip()], text)
