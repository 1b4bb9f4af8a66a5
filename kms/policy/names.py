"""The one spelling of a policy name.

The peer lower-cases and trims names in some places and not in others; that is how "root " once became
root (CVE-2025-5999, CVE-2025-64761). Here every name, from a path, a list or a role, goes through
`canonical_name`: letters, digits, '_', '-' and '.' of ASCII, in lower case. Upper case is accepted and
lowered, as the peer does; anything else is refused rather than repaired.
"""

from __future__ import annotations

from collections.abc import Iterable

from kms.ids import check_name


def canonical_name(name: str) -> str:
    """The stored spelling of `name`.

    Raises:
        KmsError(INVALID): characters outside ASCII letters, digits, '_', '-', '.'; over 128 of them.
    """
    # Checked before lowering: U+212A (Kelvin) lowers to an ASCII 'k'.
    return check_name(name, "policy name").lower()


def canonical_names(names: Iterable[str]) -> list[str]:
    """Sorted, without duplicates and empty strings, each in its one spelling. Raises like `canonical_name`."""
    return sorted({canonical_name(name) for name in names if name})
