"""The one spelling of a policy name.

The peer lower-cases and trims names in some places and not in others; that is how "root " once became
root (CVE-2025-5999, CVE-2025-64761). Here every name, from a path, a list or a role, goes through
`canonical_name`: letters, digits, '_', '-' and '.' of ASCII, in lower case, and '/' between them. Upper case is
accepted and lowered, as the peer does; anything else is refused rather than repaired.
"""

from __future__ import annotations

from collections.abc import Iterable

from kms.errors import invalid
from kms.ids import check_name

MAX_NAME_CHARACTERS = 512


def spelled(name: str, what: str) -> str:
    """`name` unchanged: segments that are names, with '/' between them.

    Raises:
        KmsError(INVALID): a segment that is empty or no name (`check_name`), or more than 512 characters in all.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        raise invalid(f"invalid {what}: longer than {MAX_NAME_CHARACTERS} characters")
    for segment in name.split("/"):
        check_name(segment, what)
    return name


def canonical_name(name: str) -> str:
    """The stored spelling of `name`.

    Raises:
        KmsError(INVALID): as `spelled`.
    """
    # Checked before lowering: U+212A (Kelvin) lowers to an ASCII 'k'.
    return spelled(name, "policy name").lower()


def canonical_names(names: Iterable[str]) -> list[str]:
    """Sorted, without duplicates and empty strings, each in its one spelling. Raises like `canonical_name`."""
    return sorted({canonical_name(name) for name in names if name})
