"""The operations on entities, aliases and groups."""

from __future__ import annotations

from collections.abc import Callable

from kms.clock import Clock
from kms.identity.entities.aliasadmin import AliasHandlers
from kms.identity.entities.entityadmin import EntityHandlers
from kms.identity.entities.groupadmin import GroupHandlers
from kms.identity.entities.groupaliasadmin import GroupAliasHandlers
from kms.identity.entities.merging import Merger
from kms.identity.entities.shown import MountOf
from kms.operation import Call, Capability, Change, Effect, Field, Operation, Outcome, Record, Result, Type
from kms.tables import Store

_ID = Field("id", record=Record.CLEAR)
_NAME = Field("name", record=Record.CLEAR)
_POLICIES = Field("policies", Type.STRINGS, record=Record.CLEAR)
_METADATA = Field("metadata", Type.MAP)
_ENTITY = (_ID, _NAME, _METADATA, _POLICIES, Field("disabled", Type.BOOL, record=Record.CLEAR))
_UNUSED = (Field("entity_id", record=Record.CLEAR), Field("mount_accessor", record=Record.CLEAR))
_GROUP = (
    _ID,
    _NAME,
    _METADATA,
    _POLICIES,
    Field("type", record=Record.CLEAR),
    Field("member_entity_ids", Type.STRINGS, record=Record.CLEAR),
    Field("member_group_ids", Type.STRINGS, record=Record.CLEAR),
)
_ALIAS = (
    _ID,
    _NAME,
    Field("mount_accessor", record=Record.CLEAR),
    Field("canonical_id", record=Record.CLEAR),
)
_ENTITY_ALIAS = (*_ALIAS, Field("entity_id", record=Record.CLEAR), Field("custom_metadata", Type.MAP))
_LOOKUP = (
    _ID,
    _NAME,
    Field("alias_id", record=Record.CLEAR),
    Field("alias_name", record=Record.CLEAR),
    Field("alias_mount_accessor", record=Record.CLEAR),
)
_MERGE = (
    Field("to_entity_id", record=Record.CLEAR),
    Field("from_entity_ids", Type.STRINGS, record=Record.CLEAR),
    Field("conflicting_alias_ids_to_keep", Type.STRINGS, record=Record.CLEAR),
    Field("force", Type.BOOL, record=Record.CLEAR),
)


def entity_operations(store: Store, clock: Clock, mount_of: MountOf) -> list[Operation]:
    """All of them, for the registry."""
    entities = EntityHandlers(store, clock, mount_of)
    aliases = AliasHandlers(store, clock, mount_of)
    groups = GroupHandlers(store, clock, mount_of)
    group_aliases = GroupAliasHandlers(store, clock, mount_of)
    merger = Merger(store, clock, mount_of)
    ids = (Field("entity_ids", Type.STRINGS, record=Record.CLEAR),)
    return [
        *_named("identity.entity", entities),
        *_named("identity.group", groups),
        *_aliases("identity.entity-alias", aliases, _ENTITY_ALIAS),
        *_aliases("identity.group-alias", group_aliases, _ALIAS),
        _write("identity.entity.write", entities.write, _ENTITY),
        _write("identity.persona.write", entities.write, (*_ENTITY, *_UNUSED)),
        _write("identity.entity.batch-delete", entities.batch_delete, ids),
        _write("identity.entity.merge", merger.merge, _MERGE),
        _write("identity.group.write", groups.write, _GROUP),
    ]


def _write(name: str, act: Callable[[Call], Outcome], fields: tuple[Field, ...]) -> Operation:
    return Operation(name, Capability.UPDATE, act, effect=Effect.STATE, fields=fields)


def _delete(name: str, act: Callable[[Call], Change], field: Field) -> Operation:
    return Operation(name, Capability.DELETE, act, effect=Effect.STATE, fields=(field,))


def _read(name: str, act: Callable[[Call], Result], *fields: Field) -> Operation:
    return Operation(name, Capability.READ, act, fields=fields)


def _named(name: str, handlers: EntityHandlers | GroupHandlers) -> list[Operation]:
    return [
        _read(f"{name}.read-id", handlers.read_by_id, _ID),
        _read(f"{name}.read-name", handlers.read_by_name, _NAME),
        Operation(f"{name}.list-ids", Capability.LIST, handlers.list_ids),
        Operation(f"{name}.list-names", Capability.LIST, handlers.list_names),
        _delete(f"{name}.delete-id", handlers.delete_by_id, _ID),
        _delete(f"{name}.delete-name", handlers.delete_by_name, _NAME),
        Operation(f"{name}.lookup", Capability.UPDATE, handlers.lookup, fields=_LOOKUP),
    ]


def _aliases(
    name: str, handlers: AliasHandlers | GroupAliasHandlers, fields: tuple[Field, ...]
) -> list[Operation]:
    return [
        _read(f"{name}.read", handlers.read, _ID),
        Operation(f"{name}.list", Capability.LIST, handlers.listing),
        _write(f"{name}.write", handlers.write, fields),
        _delete(f"{name}.delete", handlers.delete, _ID),
    ]
