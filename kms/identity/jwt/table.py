"""The operations of jwt."""

from __future__ import annotations

from kms.identity.jwt.fields import ROLE_FIELDS
from kms.identity.jwt.method import JwtMethod
from kms.operation import Caller, Capability, Effect, Field, Operation, Record, Type

_NAME = (Field("name", record=Record.CLEAR),)
_CONFIG = (
    *(
        Field(name, record=Record.CLEAR)
        for name in ("bound_issuer", "default_role", "jwks_url", "oidc_discovery_url")
    ),
    Field("jwks_ca_pem"),
    Field("oidc_discovery_ca_pem"),
    Field("jwt_supported_algs", Type.STRINGS, record=Record.CLEAR),
    Field("jwt_validation_pubkeys", Type.STRINGS),
    Field("oidc_client_id"),
    Field("oidc_client_secret"),
    Field("provider_config", Type.MAP),
)


def jwt_operations(method: JwtMethod) -> list[Operation]:
    """All of them, for the registry."""
    update, state = Capability.UPDATE, Effect.STATE
    return [
        Operation("jwt.config.read", Capability.READ, method.read_config),
        Operation("jwt.config.write", update, method.write_config, effect=state, fields=_CONFIG),
        Operation("jwt.role.list", Capability.LIST, method.listing),
        Operation("jwt.role.read", Capability.READ, method.read, fields=_NAME),
        Operation(
            "jwt.role.write",
            update,
            method.write,
            effect=state,
            exists=method.exists,
            fields=(*_NAME, *ROLE_FIELDS),
        ),
        Operation("jwt.role.delete", Capability.DELETE, method.delete, effect=state, fields=_NAME),
        Operation(
            "jwt.login",
            update,
            method.login,
            effect=state,
            caller=Caller.PROOF,
            fields=(Field("role", record=Record.CLEAR), Field("jwt")),
        ),
    ]
