"""What is stored of identity tokens and the provider. Pure values; periods in seconds, times since the epoch."""

from __future__ import annotations

from typing import Final

import msgspec

from kms.tables import Table

DAY: Final = 86_400
DEFAULT: Final = "default"
ALLOW_ALL: Final = "allow_all"
ANY: Final = "*"
NEVER: Final = 253_402_300_799.0


class RingEntry(msgspec.Struct, frozen=True):
    """One signing key of a ring, and what it signs with. `expires_at` is 0 while it may sign or will."""

    kid: str
    algorithm: str
    expires_at: float = 0.0


class OidcKey(msgspec.Struct, frozen=True, kw_only=True):
    """A named key: a ring of signing keys, of which one signs and one is announced to follow.

    Args:
        protection: of its signing keys, "" for the default of their type.
        ring: all that verifiers should know.
        due: when something has to be done with it: a rotation, or an end.
    """

    algorithm: str = "RS256"
    rotation_period: int = DAY
    verification_ttl: int = DAY
    allowed_client_ids: tuple[str, ...] = ()
    protection: str = ""
    ring: tuple[RingEntry, ...] = ()
    signing: str = ""
    next: str = ""
    next_rotation: float = NEVER
    due: float = NEVER

    def allows(self, client_id: str) -> bool:
        """Whether it signs for this client."""
        return ANY in self.allowed_client_ids or client_id in self.allowed_client_ids


class OidcRole(msgspec.Struct, frozen=True, kw_only=True):
    """What identity tokens made under a name look like."""

    key: str
    client_id: str
    template: str = ""
    ttl: int = DAY


class OidcConfig(msgspec.Struct, frozen=True):
    """Of the whole server. `issuer` is "" for the server's own address."""

    issuer: str = ""


class Assignment(msgspec.Struct, frozen=True):
    """Entities and groups that may use a client."""

    entity_ids: tuple[str, ...] = ()
    group_ids: tuple[str, ...] = ()


class Scope(msgspec.Struct, frozen=True):
    """Claims that a client may ask for by name."""

    template: str = ""
    description: str = ""


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A relying party. `secret` is "" for a public one."""

    name: str
    client_id: str
    secret: str = ""
    public: bool = False
    key: str = DEFAULT
    redirect_uris: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    id_token_ttl: int = DAY
    access_token_ttl: int = DAY
    authorization_code: bool = True
    client_credentials: bool = False


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One issuer with its clients."""

    issuer: str = ""
    allowed_client_ids: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()

    def allows(self, client_id: str) -> bool:
        """Whether the client may use it."""
        return ANY in self.allowed_client_ids or client_id in self.allowed_client_ids


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody agreed to. Its row is deleted when it is spent; the row key is an HMAC of the code."""

    provider: str
    client_id: str
    entity_id: str
    redirect_uri: str
    expires_at: float
    scopes: tuple[str, ...] = ()
    nonce: str = ""
    challenge: str = ""
    challenge_method: str = ""
    auth_time: int = 0


KEYS = Table("oidc-key", "oidc_keys", OidcKey, index=("due",), digest="identity")
ROLES = Table("oidc-role", "oidc_roles", OidcRole, digest="identity")
CONFIG = Table("oidc-config", "oidc_config", OidcConfig, digest="identity")
ASSIGNMENTS = Table("oidc-assignment", "oidc_assignments", Assignment, digest="identity")
SCOPES = Table("oidc-scope", "oidc_scopes", Scope, digest="identity")
CLIENTS = Table("oidc-client", "oidc_clients", Client, index=("client_id",), digest="identity")
PROVIDERS = Table("oidc-provider", "oidc_providers", Provider, digest="identity")
CODES = Table("oidc-code", "oidc_codes", Code, index=("expires_at",))
TABLES = (KEYS, ROLES, CONFIG, ASSIGNMENTS, SCOPES, CLIENTS, PROVIDERS)
