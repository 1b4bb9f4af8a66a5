"""The operations of jwt."""

from __future__ import annotations

from kms.identity.jwt.celroles import CEL_ROLE_FIELDS
from kms.identity.jwt.configuring import CONFIG_FIELDS
from kms.identity.jwt.fields import ROLE_FIELDS
from kms.identity.jwt.flow import BrowserLogins, given_up
from kms.identity.jwt.method import JwtMethod
from kms.operation import Caller, Capability, Effect, Field, Operation, Record

_NAME = (Field("name", record=Record.CLEAR),)


def jwt_operations(method: JwtMethod) -> list[Operation]:
    """All of them, for the registry."""
    update, state = Capability.UPDATE, Effect.STATE
    return [
        Operation("jwt.config.read", Capability.READ, method.read_config),
        Operation("jwt.config.write", update, method.write_config, effect=state, fields=CONFIG_FIELDS),
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
        *_programs(method),
    ]


def _programs(method: JwtMethod) -> list[Operation]:
    """Roles that are programs."""
    roles, update, state = method.cel_roles, Capability.UPDATE, Effect.STATE
    fields = (*_NAME, *CEL_ROLE_FIELDS)
    return [
        Operation("jwt.cel-role.list", Capability.LIST, roles.listing),
        Operation("jwt.cel-role.read", Capability.READ, roles.read, fields=_NAME),
        Operation(
            "jwt.cel-role.write", update, roles.write, effect=state, exists=roles.exists, fields=fields
        ),
        Operation("jwt.cel-role.patch", Capability.PATCH, roles.patch, effect=state, fields=fields),
        Operation("jwt.cel-role.delete", Capability.DELETE, roles.delete, effect=state, fields=_NAME),
        Operation(
            "jwt.cel-login",
            update,
            method.cel.login,
            effect=state,
            caller=Caller.PROOF,
            fields=(Field("role", record=Record.CLEAR), Field("jwt")),
        ),
    ]


def browser_operations(flow: BrowserLogins) -> list[Operation]:
    """Logins with a browser: what strangers may call before they are anybody."""
    state, proof = Effect.STATE, Caller.PROOF
    answer = tuple(Field(name) for name in ("state", "code", "client_nonce", "error"))
    more = (Field("error_description"), Field("error_uri"), Field("confirmation"))
    begin = (
        Field("role", record=Record.CLEAR),
        Field("redirect_uri", record=Record.CLEAR),
        Field("client_nonce"),
    )
    return [
        Operation(
            "jwt.oidc.auth-url", Capability.UPDATE, flow.auth_url, effect=state, caller=proof, fields=begin
        ),
        Operation(
            "jwt.oidc.callback",
            Capability.READ,
            flow.callback,
            effect=Effect.EXTERNAL,
            caller=proof,
            fields=(*answer, *more),
            resolve=given_up,
        ),
        Operation(
            "jwt.oidc.posted",
            Capability.UPDATE,
            flow.posted,
            effect=state,
            caller=proof,
            fields=(*answer, *more, Field("id_token")),
        ),
        Operation(
            "jwt.oidc.poll",
            Capability.UPDATE,
            flow.poll,
            effect=state,
            caller=proof,
            fields=(Field("state"), Field("client_nonce")),
        ),
    ]
