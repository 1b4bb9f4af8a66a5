"""The table of operations of auth/token/."""

from __future__ import annotations

from kms.identity.handlers import Handlers, Policies
from kms.identity.methods.logins import Logins
from kms.identity.service import TokenService
from kms.operation import Capability, Effect, Field, Operation, Record, Runs, Type

_TOKEN = Field("token")
_ACCESSOR = Field("accessor", record=Record.CLEAR)
_INCREMENT = Field("increment", Type.SECONDS, default=0, record=Record.CLEAR)
_ROLE = Field("role_name", record=Record.CLEAR)
_CREATE = (
    # Not STRINGS: [""] asks for no policy and [] for the parent's, and "a,b" is one bad name.
    Field("policies", Type.ANY, record=Record.CLEAR),
    Field("ttl", Type.SECONDS, record=Record.CLEAR),
    Field("lease", Type.SECONDS, record=Record.CLEAR),
    Field("explicit_max_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("period", Type.SECONDS, record=Record.CLEAR),
    Field("num_uses", Type.INT, default=0, record=Record.CLEAR),
    Field("renewable", Type.BOOL, default=True, record=Record.CLEAR),
    Field("no_parent", Type.BOOL, default=False, record=Record.CLEAR),
    Field("no_default_policy", Type.BOOL, default=False, record=Record.CLEAR),
    Field("display_name", record=Record.CLEAR),
    Field("meta", Type.MAP),
    Field("id"),
    Field("type", record=Record.CLEAR),
    Field("entity_alias", record=Record.CLEAR),
)
_ROLE_FIELDS = (
    _ROLE,
    Field("allowed_policies", Type.STRINGS, record=Record.CLEAR),
    Field("disallowed_policies", Type.STRINGS, record=Record.CLEAR),
    Field("allowed_policies_glob", Type.STRINGS, record=Record.CLEAR),
    Field("disallowed_policies_glob", Type.STRINGS, record=Record.CLEAR),
    Field("orphan", Type.BOOL, record=Record.CLEAR),
    Field("renewable", Type.BOOL, record=Record.CLEAR),
    Field("path_suffix", record=Record.CLEAR),
    Field("token_type", record=Record.CLEAR),
    Field("token_period", Type.SECONDS, record=Record.CLEAR),
    Field("period", Type.SECONDS, record=Record.CLEAR),
    Field("token_explicit_max_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("explicit_max_ttl", Type.SECONDS, record=Record.CLEAR),
    Field("token_num_uses", Type.INT, record=Record.CLEAR),
    Field("token_no_default_policy", Type.BOOL, record=Record.CLEAR),
    Field("token_bound_cidrs", Type.STRINGS, record=Record.CLEAR),
    Field("bound_cidrs", Type.STRINGS, record=Record.CLEAR),
    Field("allowed_entity_aliases", Type.STRINGS, record=Record.CLEAR),
)


def operations(tokens: TokenService, policies: Policies, logins: Logins) -> list[Operation]:
    """The table; `kms.app` registers it."""
    handlers = Handlers(tokens, policies, logins)
    return [*_births(handlers), *_looks(handlers), *_changes(handlers), *_roles(handlers)]


def _births(handlers: Handlers) -> list[Operation]:
    return [
        Operation("token.create", Capability.UPDATE, handlers.create, effect=Effect.STATE, fields=_CREATE),
        Operation(
            "token.create_orphan",
            Capability.UPDATE,
            handlers.create_orphan,
            effect=Effect.STATE,
            fields=_CREATE,
        ),
        Operation(
            "token.create_with_role",
            Capability.UPDATE,
            handlers.create_with_role,
            effect=Effect.STATE,
            fields=(_ROLE, *_CREATE),
        ),
    ]


def _looks(handlers: Handlers) -> list[Operation]:
    read, update = Capability.READ, Capability.UPDATE
    return [
        Operation("token.lookup", update, handlers.lookup, runs=Runs.INLINE, fields=(_TOKEN,)),
        Operation("token.lookup_get", read, handlers.lookup, runs=Runs.INLINE, fields=(_TOKEN,)),
        *(
            Operation(
                f"token.lookup_self{name}",
                capability,
                handlers.lookup_self,
                runs=Runs.INLINE,
                fields=(_TOKEN,),
                of_itself=True,
            )
            for name, capability in (("", read), ("_post", update))
        ),
        Operation(
            "token.lookup_accessor", update, handlers.lookup_accessor, runs=Runs.INLINE, fields=(_ACCESSOR,)
        ),
        # Reading every accessor takes a while where there are many, so not on an event loop.
        Operation("token.accessors", Capability.LIST, handlers.accessors, sudo=True),
    ]


def _changes(handlers: Handlers) -> list[Operation]:
    table = (
        ("token.renew", handlers.renew, (_TOKEN, _INCREMENT)),
        ("token.renew_self", handlers.renew_self, (_TOKEN, _INCREMENT)),
        ("token.renew_accessor", handlers.renew_accessor, (_ACCESSOR, _INCREMENT)),
        ("token.revoke", handlers.revoke, (_TOKEN,)),
        ("token.revoke_self", handlers.revoke_self, ()),
        ("token.revoke_accessor", handlers.revoke_accessor, (_ACCESSOR,)),
        ("token.revoke_orphan", handlers.revoke_orphan, (_TOKEN,)),
        ("token.tidy", handlers.tidy, ()),
    )
    return [
        Operation(
            name,
            Capability.UPDATE,
            act,
            effect=Effect.STATE,
            fields=fields,
            of_itself=name.endswith("_self"),
        )
        for name, act, fields in table
    ]


def _roles(handlers: Handlers) -> list[Operation]:
    return [
        Operation("token.role.list", Capability.LIST, handlers.role_list, runs=Runs.INLINE),
        Operation("token.role.read", Capability.READ, handlers.role_read, runs=Runs.INLINE, fields=(_ROLE,)),
        Operation(
            "token.role.write",
            Capability.UPDATE,
            handlers.role_write,
            effect=Effect.STATE,
            exists=handlers.role_exists,
            fields=_ROLE_FIELDS,
        ),
        Operation(
            "token.role.delete", Capability.DELETE, handlers.role_delete, effect=Effect.STATE, fields=(_ROLE,)
        ),
    ]
