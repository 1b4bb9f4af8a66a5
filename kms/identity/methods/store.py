"""Rows of the auth methods. Keys begin with the mount's id; no secret is among them."""

from __future__ import annotations

import msgspec

from kms.identity.methods.params import TokenParams
from kms.tables import Table


class User(TokenParams, frozen=True, kw_only=True):
    """A user of userpass. `password` is Argon2id in PHC form (RFC 9106)."""

    password: str


class AppRole(TokenParams, frozen=True, kw_only=True):
    """A role of approle.

    Args:
        uid: fresh for each role; a role made again under a name has none of the old one's secret IDs.
        secret_id_ttl: seconds, 0 for no end.
        secret_id_num_uses: 0 for any number.
    """

    uid: str
    role_id: str
    bind_secret_id: bool = True
    local_secret_ids: bool = False
    secret_id_bound_cidrs: tuple[str, ...] = ()
    secret_id_num_uses: int = 0
    secret_id_ttl: int = 0


class RoleId(msgspec.Struct, frozen=True):
    """From a role ID to its role."""

    name: str


class SecretId(msgspec.Struct, frozen=True, kw_only=True):
    """One secret ID, without the secret. `expires_at` is `NEVER` where it has no end."""

    role: str
    accessor: str
    created: float
    expires_at: float
    updated: float
    ttl: int
    num_uses: int
    cidr_list: tuple[str, ...] = ()
    token_bound_cidrs: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class SecretAccessor(msgspec.Struct, frozen=True):
    """From an accessor to its secret ID's row."""

    key: str


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """Failed logins of one name, whether or not anybody has it.

    Args:
        count: since the last success or the last reset.
        locked_until: seconds since the epoch, 0 for not locked.
        forget_at: when the row says nothing any more.
    """

    name: str
    count: int
    locked_until: float
    forget_at: float


USERS = Table("userpass-user", "userpass_users", User, digest="identity")
APPROLES = Table("approle-role", "approle_roles", AppRole, digest="identity")
ROLE_IDS = Table("approle-role-id", "approle_role_ids", RoleId, digest="identity")
SECRET_IDS = Table(
    "approle-secret-id", "approle_secret_ids", SecretId, index=("expires_at",), digest="identity"
)
SECRET_ACCESSORS = Table("approle-accessor", "approle_accessors", SecretAccessor, digest="identity")
FAILURES = Table("login-failures", "login_failures", Failures, index=("forget_at",))

TABLES = (USERS, APPROLES, ROLE_IDS, SECRET_IDS, SECRET_ACCESSORS)
