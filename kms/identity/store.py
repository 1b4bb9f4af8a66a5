"""Rows of tokens, accessors and roles.

Keys of tokens and accessors are HMACs, so neither the database file nor a backup holds anything that a
server would accept, even without the sealing of the rows.
"""

from __future__ import annotations

from kms.identity.model import AccessorRow, Token, TokenRole
from kms.tables import Table

TOKENS = Table("token", "tokens", Token, index=("parent", "expires_at"), cached=True, digest="identity")
ACCESSORS = Table("token-accessor", "token_accessors", AccessorRow, digest="identity")
ROLES = Table("token-role", "token_roles", TokenRole, digest="identity")
