"""Rows of tokens, accessors and roles.

Keys of tokens and accessors are HMACs, so neither the database file nor a backup holds anything that a
server would accept, even without the sealing of the rows.
"""

from __future__ import annotations

import msgspec

from kms.identity.model import AccessorRow, Token, TokenRole
from kms.tables import Table

TOKENS = Table("token", "tokens", Token, index=("parent", "expires_at"), cached=True, digest="identity")
ACCESSORS = Table("token-accessor", "token_accessors", AccessorRow, digest="identity")
ROLES = Table("token-role", "token_roles", TokenRole, digest="identity")
"""Keyed by name; what belongs to a namespace has its ID before it (`kms.namespaces.scoped`)."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One document of a token's cubbyhole.

    Args:
        token: row key of the token.
        document: JSON.
    """

    token: str
    document: bytes


CUBBYHOLES = Table("cubbyhole", "cubbyholes", Kept, index=("token",), digest="identity")
"""Keyed by token and path."""
