"""Entities, aliases and groups as the API shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.clock import rfc3339
from kms.identity.entities import groups
from kms.identity.entities.model import Alias, Entity, Group
from kms.identity.entities.standing import groups_of
from kms.identity.within import Within
from kms.operation import MountRef, NamespaceRef

MountOf = Callable[[str, NamespaceRef], MountRef | None]
"""From an accessor and a namespace to the mount that has it there now."""


def entity_object(reader: Within, entity: Entity, mount_of: MountOf) -> dict[str, Any]:
    """The `data` object of an entity read."""
    held, direct = groups_of(reader, entity.id)
    ids = [group.id for group in held]
    return {
        "id": entity.id,
        "name": entity.name,
        "metadata": entity.metadata,
        "merged_entity_ids": list(entity.merged_ids) or None,
        "policies": list(entity.policies),
        "disabled": entity.disabled,
        "namespace_id": reader.shown_id,
        "creation_time": rfc3339(entity.created),
        "last_update_time": rfc3339(entity.updated),
        "aliases": [_full(reader, alias, mount_of) for alias in entity.aliases],
        "direct_group_ids": ids[:direct],
        "inherited_group_ids": ids[direct:],
        "group_ids": ids,
    }


def _full(reader: Within, alias: Alias, mount_of: MountOf) -> dict[str, Any]:
    return {
        **_times(alias),
        "custom_metadata": alias.custom_metadata,
        "local": False,
        **_mount(reader, alias, mount_of),
    }


def _times(alias: Alias) -> dict[str, Any]:
    return {
        "id": alias.id,
        "canonical_id": alias.canonical_id,
        "mount_accessor": alias.mount_accessor,
        "metadata": alias.metadata,
        "name": alias.name,
        "merged_from_canonical_ids": list(alias.merged_from) or None,
        "creation_time": rfc3339(alias.created),
        "last_update_time": rfc3339(alias.updated),
    }


def _mount(reader: Within, alias: Alias, mount_of: MountOf) -> dict[str, Any]:
    mount = mount_of(alias.mount_accessor, reader.namespace)
    return {"mount_type": mount.type, "mount_path": mount.place} if mount is not None else {}


def alias_object(reader: Within, alias: Alias, mount_of: MountOf) -> dict[str, Any]:
    """The `data` object of an alias read."""
    return {**_full(reader, alias, mount_of), "namespace_id": reader.shown_id}


def alias_info(reader: Within, alias: Alias, mount_of: MountOf) -> dict[str, Any]:
    """An alias in `key_info` of a list of aliases."""
    return {
        "canonical_id": alias.canonical_id,
        "custom_metadata": alias.custom_metadata,
        "local": False,
        "metadata": alias.metadata,
        "mount_accessor": alias.mount_accessor,
        "name": alias.name,
        **_mount(reader, alias, mount_of),
    }


def _brief(reader: Within, alias: Alias, mount_of: MountOf) -> dict[str, Any]:
    return {
        "id": alias.id,
        "name": alias.name,
        "mount_accessor": alias.mount_accessor,
        **_mount(reader, alias, mount_of),
    }


def entity_info(reader: Within, entity: Entity, mount_of: MountOf) -> dict[str, Any]:
    """An entity in `key_info` of a list of entities."""
    if not entity.aliases:
        return {"name": entity.name}
    return {"name": entity.name, "aliases": [_brief(reader, alias, mount_of) for alias in entity.aliases]}


def group_object(reader: Within, group: Group, mount_of: MountOf) -> dict[str, Any]:
    """The `data` object of a group read."""
    alias = group.alias
    return {
        "id": group.id,
        "name": group.name,
        "policies": list(group.policies) if group.policies is not None else None,
        "member_entity_ids": groups.members(reader, groups.ENTITY, group.id) or None,
        "member_group_ids": groups.members(reader, groups.GROUP, group.id) or None,
        "parent_group_ids": groups.above(reader, groups.GROUP, group.id) or None,
        "metadata": group.metadata,
        "creation_time": rfc3339(group.created),
        "last_update_time": rfc3339(group.updated),
        "modify_index": group.index,
        "type": group.type,
        "namespace_id": reader.shown_id,
        "alias": {**_times(alias), **_mount(reader, alias, mount_of)} if alias is not None else {},
    }


def group_info(reader: Within, group: Group, mount_of: MountOf) -> dict[str, Any]:
    """A group in `key_info` of a list of groups."""
    info: dict[str, Any] = {
        "name": group.name,
        "num_member_entities": len(groups.members(reader, groups.ENTITY, group.id)),
        "num_parent_groups": len(groups.above(reader, groups.GROUP, group.id)),
    }
    if group.alias is not None:
        info["alias"] = _brief(reader, group.alias, mount_of)
    return info
