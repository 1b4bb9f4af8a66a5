"""The operations of the OpenID Connect provider."""

from __future__ import annotations

from kms.identity.oidc.authorize import Authorizations
from kms.identity.oidc.clients import Clients
from kms.identity.oidc.exchange import Exchange
from kms.identity.oidc.operations import NAME
from kms.identity.oidc.providers import Providers
from kms.identity.oidc.shelf import Assignments, Scopes
from kms.identity.oidc.signing import SigningKeys
from kms.identity.oidc.userinfo import UserInfo
from kms.operation import Caller, Capability, Effect, Field, Operation, Record, Type

_STRINGS = ("entity_ids", "group_ids")
_CLIENT = (
    NAME,
    Field("key", record=Record.CLEAR),
    Field("redirect_uris", Type.STRINGS, record=Record.CLEAR),
    Field("assignments", Type.STRINGS, record=Record.CLEAR),
    Field("client_type", record=Record.CLEAR),
    Field("id_token_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("access_token_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("authorization_code", Type.BOOL, record=Record.CLEAR),
    Field("client_credentials", Type.BOOL, record=Record.CLEAR),
)
_PROVIDER = (
    NAME,
    Field("issuer", record=Record.CLEAR),
    Field("allowed_client_ids", Type.STRINGS, record=Record.CLEAR),
    Field("scopes_supported", Type.STRINGS, record=Record.CLEAR),
)
_AUTHORIZE = (
    NAME,
    Field("client_id", record=Record.CLEAR),
    Field("scope", record=Record.CLEAR),
    Field("redirect_uri", record=Record.CLEAR),
    Field("response_type", record=Record.CLEAR),
    Field("state"),
    Field("nonce"),
    Field("max_age", Type.INT, default=0, record=Record.CLEAR),
    Field("code_challenge"),
    Field("code_challenge_method", default="plain", record=Record.CLEAR),
    Field("request"),
    Field("request_uri"),
)
_TOKEN = (
    NAME,
    Field("code"),
    Field("grant_type", record=Record.CLEAR),
    Field("redirect_uri", record=Record.CLEAR),
    Field("code_verifier"),
    Field("scope", record=Record.CLEAR),
    Field("client_id", record=Record.CLEAR),
    Field("client_secret"),
)


def provider_operations(
    *,
    assignments: Assignments,
    scopes: Scopes,
    clients: Clients,
    providers: Providers,
    authorizations: Authorizations,
    exchange: Exchange,
    userinfo: UserInfo,
    signing: SigningKeys,
) -> list[Operation]:
    """All of them, for the registry."""
    read, update, state = Capability.READ, Capability.UPDATE, Effect.STATE
    ids = tuple(Field(name, Type.STRINGS, record=Record.CLEAR) for name in _STRINGS)
    scope = (NAME, Field("template"), Field("description", record=Record.CLEAR))
    return [
        *_kept("assignment", assignments),
        _write("assignment", assignments, (NAME, *ids)),
        *_kept("scope", scopes),
        _write("scope", scopes, scope),
        *_kept("client", clients),
        Operation(
            "identity.oidc.client.write",
            update,
            clients.write,
            effect=Effect.EXTERNAL,
            exists=clients.exists,
            fields=_CLIENT,
            resolve=signing.resolve,
        ),
        *_kept("provider", providers, (Field("allowed_client_id", record=Record.CLEAR),)),
        _write("provider", providers, _PROVIDER),
        Operation(
            "identity.oidc.provider.discovery",
            read,
            providers.discovery,
            caller=Caller.PUBLIC,
            fields=(NAME,),
        ),
        Operation("identity.oidc.provider.keys", read, providers.keys, caller=Caller.PUBLIC, fields=(NAME,)),
        Operation(
            "identity.oidc.provider.authorize",
            read,
            authorizations.authorize,
            effect=state,
            fields=_AUTHORIZE,
        ),
        Operation(
            "identity.oidc.provider.authorize-post",
            update,
            authorizations.authorize,
            effect=state,
            fields=_AUTHORIZE,
        ),
        Operation(
            "identity.oidc.provider.token",
            update,
            exchange.exchange,
            effect=state,
            caller=Caller.PROOF,
            fields=_TOKEN,
        ),
        Operation("identity.oidc.provider.userinfo", read, userinfo.read, fields=(NAME,)),
        Operation("identity.oidc.provider.userinfo-post", update, userinfo.read, fields=(NAME,)),
    ]


_Kept = Assignments | Scopes | Clients | Providers


def _kept(kind: str, handlers: _Kept, listed: tuple[Field, ...] = ()) -> list[Operation]:
    name = f"identity.oidc.{kind}"
    return [
        Operation(f"{name}.read", Capability.READ, handlers.read, fields=(NAME,)),
        Operation(f"{name}.list", Capability.LIST, handlers.listing, fields=listed),
        Operation(f"{name}.delete", Capability.DELETE, handlers.delete, effect=Effect.STATE, fields=(NAME,)),
    ]


def _write(kind: str, handlers: Assignments | Scopes | Providers, fields: tuple[Field, ...]) -> Operation:
    return Operation(
        f"identity.oidc.{kind}.write",
        Capability.UPDATE,
        handlers.write,
        effect=Effect.STATE,
        exists=handlers.exists,
        fields=fields,
    )
