"""Entities, aliases, groups and memberships: pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from kms.tables import Table

INTERNAL: Final = "internal"
EXTERNAL: Final = "external"


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """An entity's name at one auth mount, or an external group's.

    Args:
        canonical_id: the entity or group.
        metadata: what the auth method said at the last login.
        custom_metadata: what an operator wrote.
        merged_from: entities that it was taken over from.
        created, updated: seconds since the epoch.
    """

    id: str
    canonical_id: str
    mount_accessor: str
    name: str
    created: float
    updated: float
    metadata: dict[str, str] | None = None
    custom_metadata: dict[str, str] | None = None
    merged_from: tuple[str, ...] = ()


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """One person or machine. `policies` are canonical names; times in seconds since the epoch."""

    id: str
    name: str
    created: float
    updated: float
    metadata: dict[str, str] | None = None
    policies: tuple[str, ...] = ()
    disabled: bool = False
    aliases: tuple[Alias, ...] = ()
    merged_ids: tuple[str, ...] = ()


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Entities and groups that share policies. Those of an external one are told by the logins of a mount.

    Args:
        policies: canonical names as they were given; None before any were.
        index: 1 when it is new, one more with each write of the group itself.
    """

    id: str
    name: str
    created: float
    updated: float
    type: str = INTERNAL
    metadata: dict[str, str] | None = None
    policies: tuple[str, ...] | None = None
    alias: Alias | None = None
    index: int = 1


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """One member of one group. The row key begins with the member, so that its groups are found at once.

    Args:
        group_id: the group.
        member_id: an entity, or a group.
    """

    group_id: str
    member_id: str


class Pointer(msgspec.Struct, frozen=True):
    """From a name, an alias or an id that is no more, to the entity or group."""

    id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What an entity is at this moment.

    Args:
        policies: its own and its groups', sorted.
        groups: direct ones first, then those above them.
        direct: how many of these are direct.
        values: what `{{name}}` in a policy stands for.
    """

    entity: Entity
    policies: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    direct: int = 0
    values: Mapping[str, str] = field(default_factory=dict)


ENTITIES = Table("identity-entity", "identity_entities", Entity, cached=True, digest="identity")
GROUPS = Table("identity-group", "identity_groups", Group, cached=True, digest="identity")
MEMBERSHIPS = Table(
    "identity-membership",
    "identity_memberships",
    Membership,
    index=("group_id",),
    cached=True,
    digest="identity",
)
"""Keyed by e/<entity id>/<group id> and g/<group id>/<group id above it>."""
POINTERS = Table("identity-pointer", "identity_pointers", Pointer, digest="identity")
"""Keyed by kind and what is looked up; names stand there as digests."""
TABLES = (ENTITIES, GROUPS, MEMBERSHIPS, POINTERS)
