"""Rows of namespaces, and the keys of rows that belong to one."""

from __future__ import annotations

from typing import Final

import msgspec

from kms.operation import NamespaceRef
from kms.tables import Table

ID_LENGTH: Final = 6
"""Base62 characters, as on the peer: tokens and accessors end in it."""


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace. The row key is its full path, which ends in '/'; the root namespace has no row.

    Args:
        id: `ID_LENGTH` base62 characters, never used again.
        custom_metadata: what its maker wrote to it.
        tainted: it is being removed; nothing in it answers any more.
        lock: SHA-256 of the key that opens the lock, hex; "" for a namespace that is not locked. The key is random
            and long, so the digest tells nothing.
    """

    id: str
    uuid: str
    custom_metadata: dict[str, str] = {}
    tainted: bool = False
    lock: str = ""


NAMESPACES = Table("namespace", "namespaces", Namespace, cached=True, digest="system")


def scoped(namespace: NamespaceRef, name: str) -> str:
    """The row key of what is called `name` in a namespace.

    What comes before the first slash is the namespace's ID, so a name of the root namespace that holds a slash itself
    begins with one: `abc123/x` there is not `x` in the namespace abc123.
    """
    return f"{namespace.id}/{name}" if namespace.id or "/" in name else name


def scoped_prefix(namespace: NamespaceRef) -> str:
    """What the row keys of a namespace begin with; "" for the root namespace: see `unscoped` for which are its."""
    return f"{namespace.id}/" if namespace.id else ""


def unscoped(key: str) -> tuple[str, str]:
    """(id of the namespace, name) of a row key."""
    before, slash, name = key.partition("/")
    return (before, name) if slash else ("", before)
