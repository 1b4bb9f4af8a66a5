"""The table of operations of login MFA."""

from __future__ import annotations

from kms.identity.methods.logins import Logins
from kms.identity.mfa.admin import MfaAdmin
from kms.operation import Caller, Capability, Effect, Field, Operation, Record, Type

_ID = Field("method_id", record=Record.CLEAR)
_ENTITY = Field("entity_id", record=Record.CLEAR)
_NAME = Field("name", record=Record.CLEAR)
_METHOD = (
    _ID,
    Field("method_name", record=Record.CLEAR),
    Field("issuer", record=Record.CLEAR),
    Field("algorithm", record=Record.CLEAR),
    *(
        Field(name, Type.INT, record=Record.CLEAR)
        for name in ("digits", "skew", "key_size", "qr_size", "max_validation_attempts")
    ),
    Field("period", Type.SECONDS, record=Record.CLEAR),
)
_ENFORCEMENT = (
    _NAME,
    *(
        Field(name, Type.STRINGS, record=Record.CLEAR)
        for name in (
            "mfa_method_ids",
            "auth_method_accessors",
            "auth_method_types",
            "identity_entity_ids",
            "identity_group_ids",
        )
    ),
)


def mfa_operations(admin: MfaAdmin, logins: Logins) -> list[Operation]:
    """All of them."""
    read, listed, update = Capability.READ, Capability.LIST, Capability.UPDATE
    delete, state = Capability.DELETE, Effect.STATE
    pair = (_ID, _ENTITY)
    return [
        Operation("identity.mfa.method.list", listed, admin.methods),
        Operation("identity.mfa.method.read", read, admin.read_method, fields=(_ID,)),
        Operation("identity.mfa.method.write", update, admin.write_method, effect=state, fields=_METHOD),
        Operation("identity.mfa.method.delete", delete, admin.delete_method, effect=state, fields=(_ID,)),
        Operation("identity.mfa.generate", update, admin.generate, effect=state, fields=(_ID,)),
        Operation("identity.mfa.admin-generate", update, admin.admin_generate, effect=state, fields=pair),
        Operation("identity.mfa.admin-destroy", update, admin.admin_destroy, effect=state, fields=pair),
        Operation("identity.mfa.enforcement.list", listed, admin.enforcements),
        Operation("identity.mfa.enforcement.read", read, admin.read_enforcement, fields=(_NAME,)),
        Operation(
            "identity.mfa.enforcement.write",
            update,
            admin.write_enforcement,
            effect=state,
            exists=admin.enforcement_exists,
            fields=_ENFORCEMENT,
        ),
        Operation(
            "identity.mfa.enforcement.delete", delete, admin.delete_enforcement, effect=state, fields=(_NAME,)
        ),
        Operation(
            "sys.mfa.validate",
            update,
            logins.validate,
            effect=state,
            caller=Caller.PROOF,
            fields=(Field("mfa_request_id"), Field("mfa_payload", Type.MAP)),
        ),
    ]
