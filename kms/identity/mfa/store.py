"""Rows of login MFA."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kms.identity.model import Token
from kms.tables import Table

TOTP: Final = "totp"


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """How codes of one method are made and shown. The row key is its ID."""

    id: str
    name: str = ""
    issuer: str = ""
    algorithm: str = "SHA1"
    digits: int = 6
    period: int = 30  # seconds
    skew: int = 1  # periods before and after now that are accepted too
    key_size: int = 20  # bytes
    qr_size: int = 200  # pixels; 0 for no picture
    max_validation_attempts: int = 5
    namespace: str = ""  # ID of the one that it belongs to; "" is the root namespace


class Enforcement(msgspec.Struct, frozen=True, kw_only=True):
    """Which logins need one of which methods. The row key is its name, behind its namespace's ID."""

    id: str
    mfa_method_ids: tuple[str, ...]
    auth_method_accessors: tuple[str, ...] = ()
    auth_method_types: tuple[str, ...] = ()
    identity_entity_ids: tuple[str, ...] = ()
    identity_group_ids: tuple[str, ...] = ()


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """What one entity shares with one method. The row key is method/entity.

    Args:
        secret: raw bytes; the row is sealed.
        last_step: the period of the code that was accepted last: none up to it is accepted again.
        failures: since the last success, or since `forget_at`.
        forget_at: seconds since the epoch.
    """

    secret: bytes
    last_step: int = -1
    failures: int = 0
    forget_at: float = 0.0


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A login that lacks its second factor. The row key is an HMAC of its request ID.

    Args:
        token: what it gets; its times count from the validation.
        enforcements: row keys, all of which must be satisfied.
        warnings: for the answer.
    """

    token: Token
    enforcements: tuple[str, ...]
    expires_at: float
    warnings: tuple[str, ...] = ()


METHODS = Table("mfa-method", "mfa_methods", Method, digest="identity")
ENFORCEMENTS = Table("mfa-enforcement", "mfa_enforcements", Enforcement, cached=True, digest="identity")
SECRETS = Table("mfa-secret", "mfa_secrets", Secret, digest="identity")
WAITING = Table("mfa-login", "mfa_logins", Waiting, index=("expires_at",))
TABLES: tuple[Table[Any], ...] = (METHODS, ENFORCEMENTS, SECRETS)
