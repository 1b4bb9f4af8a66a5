"""The operations of identity tokens."""

from __future__ import annotations

from kms.identity.oidc.keyadmin import ROTATE, OidcKeys
from kms.identity.oidc.roleadmin import OidcRoles
from kms.identity.oidc.signing import SigningKeys
from kms.identity.oidc.tokens import IdentityTokens
from kms.operation import Call, Caller, Capability, Effect, Field, Operation, Outcome, Record, Type

NAME = Field("name", record=Record.CLEAR)
_TTL = Field("verification_ttl", Type.SECONDS, record=Record.CLEAR)
_KEY = (
    NAME,
    _TTL,
    Field("rotation_period", Type.SECONDS, record=Record.CLEAR),
    Field("algorithm", record=Record.CLEAR),
    Field("allowed_client_ids", Type.STRINGS, record=Record.CLEAR),
    Field("protection", record=Record.CLEAR),
)
_ROLE = (
    NAME,
    Field("key", record=Record.CLEAR),
    Field("template"),
    Field("ttl", Type.SECONDS, record=Record.CLEAR),
    Field("client_id", record=Record.CLEAR),
)


def token_operations(
    keys: OidcKeys, roles: OidcRoles, tokens: IdentityTokens, signing: SigningKeys
) -> list[Operation]:
    """All of them, for the registry."""
    read, update, state = Capability.READ, Capability.UPDATE, Effect.STATE
    external, resolve = Effect.EXTERNAL, signing.resolve
    issuer = (Field("issuer", record=Record.CLEAR),)
    return [
        Operation("identity.oidc.config.read", read, roles.read_config),
        Operation("identity.oidc.config.write", update, roles.write_config, effect=state, fields=issuer),
        Operation("identity.oidc.key.read", read, keys.read, fields=(NAME,)),
        Operation("identity.oidc.key.list", Capability.LIST, keys.listing),
        Operation(
            "identity.oidc.key.write",
            update,
            keys.write,
            effect=external,
            exists=keys.exists,
            fields=_KEY,
            resolve=resolve,
        ),
        Operation("identity.oidc.key.delete", Capability.DELETE, keys.delete, effect=state, fields=(NAME,)),
        Operation(
            "identity.oidc.key.rotate",
            update,
            keys.rotate,
            effect=external,
            fields=(NAME, _TTL),
            resolve=resolve,
        ),
        Operation(ROTATE, update, _never, effect=external, resolve=resolve),
        Operation("identity.oidc.role.read", read, roles.read, fields=(NAME,)),
        Operation("identity.oidc.role.list", Capability.LIST, roles.listing),
        Operation(
            "identity.oidc.role.write",
            update,
            roles.write,
            effect=external,
            exists=roles.exists,
            fields=_ROLE,
            resolve=resolve,
        ),
        Operation("identity.oidc.role.delete", Capability.DELETE, roles.delete, effect=state, fields=(NAME,)),
        Operation("identity.oidc.token", read, tokens.generate, fields=(NAME,)),
        Operation(
            "identity.oidc.introspect",
            update,
            tokens.introspect,
            fields=(Field("token"), Field("client_id", record=Record.CLEAR)),
        ),
        Operation("identity.oidc.discovery", read, tokens.discovery, caller=Caller.PUBLIC),
        Operation("identity.oidc.keys", read, tokens.keys, caller=Caller.PUBLIC),
    ]


def _never(_call: Call) -> Outcome:
    raise TypeError("this is background work, which no request reaches")
