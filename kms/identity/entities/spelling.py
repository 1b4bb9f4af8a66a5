"""The one spelling of a name of an entity, alias or group.

Names are people's and machines' own: `jane@example.test`, `repo:org/app:ref:refs/heads/main`, `José`. So they
are not bound to letters and digits, but what could be taken for another name is refused, never repaired: spaces at an
end, control and invisible characters, and every form that Unicode calls a mere variant (full-width letters, the
Kelvin sign). Upper and lower case are the same name, and the first spelling is shown.
"""

from __future__ import annotations

import unicodedata
from hashlib import sha256
from typing import Final

from kms.errors import invalid
from kms.policy import NOT_ASSIGNABLE, ROOT, canonical_names

MAX_CHARACTERS: Final = 512
MAX_PAIRS: Final = 64
MAX_KEY: Final = 128
MAX_VALUE: Final = 512
_BREAKS: Final = {"Zl", "Zp"}


def checked(name: str, what: str = "name") -> str:
    """`name` unchanged.

    Raises:
        KmsError(INVALID): empty, too long, or with characters that make two names look like one.
    """
    if not 0 < len(name) <= MAX_CHARACTERS:
        raise invalid(f"invalid {what}: use 1 to {MAX_CHARACTERS} characters")
    if name != name.strip() or any(map(_odd, name)) or unicodedata.normalize("NFKC", name) != name:
        raise invalid(
            f"invalid {what}: no spaces at its ends, no control or invisible characters, and no variants of other "
            "characters (Unicode form NFKC)"
        )
    return name


def _odd(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in _BREAKS or (category == "Zs" and character != " ")


def folded(name: str) -> str:
    """What is compared. Only for names that were checked: no other character lowers to an ASCII letter then."""
    return name.lower()


def key_of(name: str) -> str:
    """The end of a row key, 64 hex digits. Raises KmsError(INVALID)."""
    return sha256(folded(checked(name)).encode()).hexdigest()


def pairs(given: dict[str, object] | None, what: str, *, least: int = 0) -> dict[str, str]:
    """Metadata, checked: texts only, bounded.

    Args:
        given: as it was sent.
        what: the field, for people.
        least: characters that a value has at least.

    Raises:
        KmsError(INVALID): too many pairs, or one too long or no text.
    """
    found: dict[str, str] = {}
    for name, value in (given or {}).items():
        if isinstance(value, dict | list):
            raise invalid(f"{what} holds texts only")
        text = "" if value is None else ("1" if value else "0") if isinstance(value, bool) else str(value)
        if not 0 < len(name) <= MAX_KEY or not least <= len(text) <= MAX_VALUE:
            raise invalid(f"{what}: keys have 1 to {MAX_KEY} characters, values {least} to {MAX_VALUE}")
        found[name] = text
    if len(found) > MAX_PAIRS:
        raise invalid(f"{what} holds at most {MAX_PAIRS} pairs")
    return found


def policies(names: list[str]) -> tuple[str, ...]:
    """Policies of an entity or group, in their one spelling, sorted. Raises KmsError(INVALID)."""
    found = tuple(canonical_names(name.strip() for name in names))
    if ROOT in found:
        raise invalid("policies cannot contain root")
    for name in found:
        if name in NOT_ASSIGNABLE:
            raise invalid(f'cannot assign policy "{name}"')
    return found
