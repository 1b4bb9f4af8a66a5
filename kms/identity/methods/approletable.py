"""The operations of approle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.identity.methods.approle import AppRoles
from kms.identity.methods.approleadmin import RoleAdmin
from kms.identity.methods.approlefields import ROLE_FIELDS
from kms.identity.methods.approlesecrets import SecretIds
from kms.operation import Call, Caller, Capability, Effect, Field, Operation, Record, Type

_ROLE = Field("role_name", record=Record.CLEAR)
_ONE = (_ROLE, Field("field", record=Record.CLEAR))
_SECRET = (_ROLE, Field("secret_id"))
_ACCESSOR = (_ROLE, Field("secret_id_accessor", record=Record.CLEAR))
_NEW = (
    _ROLE,
    Field("metadata"),
    Field("cidr_list", Type.STRINGS, record=Record.CLEAR),
    Field("token_bound_cidrs", Type.STRINGS, record=Record.CLEAR),
    Field("num_uses", Type.INT, record=Record.CLEAR),
    Field("ttl", Type.SECONDS, record=Record.CLEAR),
)
_ROLE_ID = Field("role_id")


def approle_operations(roles: AppRoles) -> list[Operation]:
    """All of them, for the registry."""
    admin, secrets = RoleAdmin(roles), SecretIds(roles)
    read, update, delete = Capability.READ, Capability.UPDATE, Capability.DELETE

    def state(
        name: str,
        act: Callable[[Call], Any],
        fields: tuple[Field, ...] = (),
        capability: Capability = update,
        exists: Callable[[Call], bool] | None = None,
    ) -> Operation:
        return Operation(
            f"approle.{name}", capability, act, effect=Effect.STATE, fields=fields, exists=exists
        )

    return [
        Operation("approle.role.list", Capability.LIST, admin.listing),
        Operation("approle.role.read", read, admin.read, fields=(_ROLE,)),
        state("role.write", admin.write, (_ROLE, _ROLE_ID, *ROLE_FIELDS), exists=admin.exists),
        state("role.delete", admin.delete, (_ROLE,), delete),
        Operation("approle.role.field.read", read, admin.read_one, fields=_ONE),
        state("role.field.write", admin.write_one, (*_ONE, *ROLE_FIELDS)),
        state("role.field.reset", admin.reset_one, _ONE, delete),
        Operation("approle.role-id.read", read, admin.read_role_id, fields=(_ROLE,)),
        state("role-id.write", admin.write_role_id, (_ROLE, _ROLE_ID)),
        Operation("approle.secret-id.list", Capability.LIST, secrets.listing, fields=(_ROLE,)),
        state("secret-id.create", secrets.create, _NEW),
        state("secret-id.create-custom", secrets.create_custom, (*_NEW, Field("secret_id"))),
        Operation("approle.secret-id.lookup", update, secrets.lookup, fields=_SECRET),
        state("secret-id.destroy", secrets.destroy, _SECRET),
        Operation("approle.secret-id-accessor.lookup", update, secrets.lookup_accessor, fields=_ACCESSOR),
        state("secret-id-accessor.destroy", secrets.destroy_accessor, _ACCESSOR),
        state("tidy", secrets.tidy),
        Operation(
            "approle.login",
            update,
            roles.login,
            effect=Effect.STATE,
            caller=Caller.PROOF,
            fields=(_ROLE_ID, Field("secret_id")),
        ),
    ]
