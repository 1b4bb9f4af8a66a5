"""Rows of the method, below the mount's id. The client secret and attempts are secret: rows are sealed, no answer shows them."""

from __future__ import annotations

from typing import Any

import msgspec

from kms.cel import Program
from kms.identity.methods.params import TokenParams
from kms.tables import Table


class JwksPair(msgspec.Struct, frozen=True, kw_only=True):
    """One of several places with keys, and the authorities (PEM) of its certificate; "" for the system's."""

    jwks_url: str
    jwks_ca_pem: str = ""


class JwtConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are taken. Exactly one of the four sources of keys is set, or the pod's cluster is it.

    Args:
        oidc_client_id: set, with the secret and a discovery URL, where people log in with a browser.
        oidc_response_mode: "query" (or "") or "form_post": how the provider's answer travels through the browser.
        oidc_response_types: "code" (the default) or "id_token".
        jwks_pairs: several JWKS; a token may be signed with a key of any of them.
        provider: of `grouping`, whose groups are said in ways of its own, or of `pod`, whose keys are; "" for all others.
        settings: the provider's, as they were sent.
        override_allowed_server_names: whose certificate every place that is asked may show, in place of its URL's host.
    """

    bound_issuer: str = ""
    default_role: str = ""
    jwks_ca_pem: str = ""
    jwks_url: str = ""
    jwt_supported_algs: tuple[str, ...] = ()
    jwt_validation_pubkeys: tuple[str, ...] = ()
    oidc_discovery_ca_pem: str = ""
    oidc_discovery_url: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: str = ""
    oidc_response_mode: str = ""
    oidc_response_types: tuple[str, ...] = ()
    namespace_in_state: bool = True
    jwks_pairs: tuple[JwksPair, ...] = ()
    override_allowed_server_names: tuple[str, ...] = ()
    provider: str = ""
    settings: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def browser(self) -> bool:
        """Whether people can log in with a browser."""
        return bool(self.oidc_discovery_url and self.oidc_client_id and self.oidc_client_secret)

    @property
    def implicit(self) -> bool:
        """Whether the provider sends the ID token itself through the browser, and no code."""
        return "id_token" in self.oidc_response_types


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
    role_type: str = "jwt"
    allowed_redirect_uris: tuple[str, ...] = ()
    oidc_scopes: tuple[str, ...] = ()
    max_age: int = 0
    callback_mode: str = "client"
    poll_interval: int = 0
    oidc_disable_confirmation: bool = False
    verbose_oidc_logging: bool = False
    oauth2_metadata: tuple[str, ...] = ()


class CelRole(msgspec.Struct, frozen=True, kw_only=True):
    """A role that is a program. What comes before it: audiences, and leeways as of `JwtRole`."""

    program: Program
    message: str = ""
    bound_audiences: tuple[str, ...] = ()
    clock_skew_leeway: int = 60
    expiration_leeway: int = 150
    not_before_leeway: int = 150


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A login with a browser that has begun. Its row key is the hash of its state.

    Args:
        verifier: of PKCE (RFC 7636); leaves this server only to the provider's token endpoint.
        client_nonce: of the client that began; it must show it again.
        requester: its address, for the person who confirms.
        stage: OPEN, TAKEN (the answer came and is being proved) or PROVED (waits for the client's poll).
        code: what the provider posted, for the client's next call; so is `id_token`.
        device_code: of the device flow (RFC 8628), whose person is somewhere else; secret, for the provider alone.
        meta: of `Proved`, once it is proved; so are those below.
        oauth2: the provider's tokens that the role hands on.
    """

    mount_id: str
    role: str
    redirect_uri: str
    nonce: str
    verifier: str
    client_nonce: str
    requester: str
    expires_at: float
    stage: str = "open"
    code: str = ""
    id_token: str = ""
    device_code: str = ""
    oauth2: dict[str, str] = msgspec.field(default_factory=dict)
    meta: dict[str, str] = msgspec.field(default_factory=dict)
    display_name: str = ""
    alias: str = ""
    groups: tuple[str, ...] = ()


OPEN, TAKEN, PROVED = "open", "taken", "proved"
ATTEMPTS = Table("oidc-attempt", "oidc_attempts", Attempt, index=("expires_at",))
CONFIGS = Table("jwt-config", "jwt_configs", JwtConfig, digest="identity")
ROLES = Table("jwt-role", "jwt_roles", JwtRole, digest="identity")
CEL_ROLES = Table("jwt-cel-role", "jwt_cel_roles", CelRole, digest="identity")
TABLES = (CONFIGS, ROLES, CEL_ROLES)
"""Those with a digest."""
