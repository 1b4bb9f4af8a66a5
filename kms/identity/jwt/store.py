"""Rows of the method, below the mount's id. Nothing secret is among them."""

from __future__ import annotations

from typing import Any

import msgspec

from kms.identity.methods.params import TokenParams
from kms.tables import Table


class JwtConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are taken. Exactly one of the three sources of keys is set."""

    bound_issuer: str = ""
    default_role: str = ""
    jwks_ca_pem: str = ""
    jwks_url: str = ""
    jwt_supported_algs: tuple[str, ...] = ()
    jwt_validation_pubkeys: tuple[str, ...] = ()
    oidc_discovery_ca_pem: str = ""
    oidc_discovery_url: str = ""


class JwtRole(TokenParams, frozen=True, kw_only=True):
    """What a token must say, and what it gets. Leeways in seconds; 0 for the default, negative for none."""

    user_claim: str
    user_claim_json_pointer: bool = False
    bound_audiences: tuple[str, ...] = ()
    bound_claims: dict[str, Any] = msgspec.field(default_factory=dict)
    bound_claims_type: str = "string"
    bound_subject: str = ""
    claim_mappings: dict[str, str] = msgspec.field(default_factory=dict)
    clock_skew_leeway: int = 0
    expiration_leeway: int = 0
    not_before_leeway: int = 0
    groups_claim: str = ""


CONFIGS = Table("jwt-config", "jwt_configs", JwtConfig, digest="identity")
ROLES = Table("jwt-role", "jwt_roles", JwtRole, digest="identity")
TABLES = (CONFIGS, ROLES)
