"""Tokens and token roles: what is stored of them. Pure values; no token string is ever among them."""

from __future__ import annotations

from typing import Final

import msgspec

# The end of the year 9999: a root token's expiry, so that one index comparison serves all rows.
NEVER: Final = 253_402_300_799.0
# Any time in the past: the row's token, and through it every descendant, is refused from the commit on.
REVOKED: Final = 0.0
# Where a first root token comes from; it has no lease, so revoking a prefix cannot lock the operator out.
ROOT_PATH: Final = "auth/token/root"
SERVICE: Final = "service"
BATCH: Final = "batch"
# Row keys of what the tokens of an auth mount hang on; a token's own row key is hex digits.
ISSUER: Final = "issuer/"
# A chain of parents is walked for each request of its last child, so it is kept short.
MAX_DEPTH: Final = 64


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """One token, without its secret. Rows hold service tokens only.

    Args:
        accessor: 24 base62 characters; names the token to those who may not hold it.
        parent: row key of the parent, "" for an orphan.
        expires_at: seconds since the epoch; NEVER for a root token without TTL; REVOKED once revoked.
        policies: canonical names, sorted.
        path: where it was created, for lookups.
        created: seconds since the epoch.
        creation_ttl: seconds granted at creation, 0 for none.
        lease_ttl: seconds granted last; a renewal without an increment asks for as much.
        explicit_max_ttl: hard bound in seconds since `created`, 0 for none.
        period: seconds; each renewal grants as much, without end. 0 for none.
        num_uses: uses left; 0 for any number.
        last_renewal: seconds since the epoch, 0 for never.
        depth: parents above it.
        bound_cidrs: networks from which it is accepted; empty for any.
        login: "<mount id>/<user or role>" of the auth method that made it, "" for others.
        type: SERVICE or BATCH.
        bare: the entity adds no policies.
        internal: what its maker must know when it comes back; never shown.
        mfa: the login was confirmed by a second factor; children have it from their parent.
        namespace: ID of the namespace that it belongs to, "" for the root namespace; `path` is full.
        proof: what its login was proved with, where a renewal wants to see it again: SHA-256 of a certificate, hex.
    """

    accessor: str
    parent: str
    expires_at: float
    policies: tuple[str, ...]
    path: str
    display_name: str
    created: float
    meta: dict[str, str] | None = None
    creation_ttl: int = 0
    lease_ttl: int = 0
    explicit_max_ttl: int = 0
    period: int = 0
    num_uses: int = 0
    renewable: bool = False
    role: str = ""
    entity_id: str = ""
    last_renewal: float = 0.0
    depth: int = 0
    bound_cidrs: tuple[str, ...] = ()
    login: str = ""
    mfa: bool = False
    proof: str = ""
    type: str = SERVICE
    bare: bool = False
    internal: dict[str, str] | None = None
    namespace: str = ""

    @property
    def batch(self) -> bool:
        """Whether it is its own record, and has no row."""
        return self.type == BATCH

    @property
    def orphan(self) -> bool:
        """Whether no other token takes it along when it dies."""
        return not self.parent or self.parent.startswith(ISSUER)


class AccessorRow(msgspec.Struct, frozen=True):
    """From an accessor to its token's row."""

    accessor: str
    token: str


class TokenRole(msgspec.Struct, frozen=True, kw_only=True):
    """What tokens made through auth/token/create/<name> look like."""

    name: str
    allowed_policies: tuple[str, ...] = ()
    disallowed_policies: tuple[str, ...] = ()
    allowed_policies_glob: tuple[str, ...] = ()
    disallowed_policies_glob: tuple[str, ...] = ()
    orphan: bool = False
    renewable: bool = True
    path_suffix: str = ""
    token_type: str = "default-service"  # noqa: S105  (a kind of token)
    token_period: int = 0
    token_explicit_max_ttl: int = 0
    token_num_uses: int = 0
    token_no_default_policy: bool = False
    period: int = 0
    explicit_max_ttl: int = 0
    token_bound_cidrs: tuple[str, ...] = ()
    allowed_entity_aliases: tuple[str, ...] = ()

    @property
    def chooses_policies(self) -> bool:
        """Whether it replaces the rule that a child gets a subset of its parent's policies."""
        return bool(
            self.allowed_policies
            or self.disallowed_policies
            or self.allowed_policies_glob
            or self.disallowed_policies_glob
        )
