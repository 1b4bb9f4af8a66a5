"""Rows of entities, and the pointers at them: by name, by alias, and by ids that a merge took over."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from kms.identity.entities.model import ENTITIES, POINTERS, Alias, Entity, Pointer
from kms.identity.entities.spelling import key_of
from kms.identity.within import Within
from kms.ids import new_id
from kms.tables import Reader, Row, Transaction

_NAME: Final = "entity-name"
_ALIAS: Final = "entity-alias"
_ALIAS_ID: Final = "entity-alias-id"
_MERGED: Final = "merged"


def find(reader: Reader, entity_id: str) -> Row[Entity] | None:
    """The entity with this id."""
    return reader.get(ENTITIES, entity_id)


def followed(reader: Reader, entity_id: str) -> Row[Entity] | None:
    """The same, or the one that it was merged into: tokens keep the id that they were born with."""
    return reader.get(ENTITIES, entity_id) or _pointed(reader, f"{_MERGED}/{entity_id}")


def by_name(reader: Reader, name: str) -> Row[Entity] | None:
    """The entity of this name, in whatever case. Raises KmsError(INVALID)."""
    return _pointed(reader, f"{_NAME}/{key_of(name)}")


def by_alias(reader: Reader, accessor: str, name: str) -> Row[Entity] | None:
    """The entity that has this name at a mount. Raises KmsError(INVALID)."""
    return _pointed(reader, _factors(accessor, name))


def by_alias_id(reader: Reader, alias_id: str) -> Row[Entity] | None:
    """The entity of an alias."""
    return _pointed(reader, f"{_ALIAS_ID}/{alias_id}")


def alias_of(entity: Entity, alias_id: str) -> Alias:
    """One of its aliases."""
    return next(alias for alias in entity.aliases if alias.id == alias_id)


def alias_at(entity: Entity, accessor: str) -> Alias | None:
    """Its alias at a mount."""
    return next((alias for alias in entity.aliases if alias.mount_accessor == accessor), None)


def _pointed(reader: Reader, key: str) -> Row[Entity] | None:
    pointer = reader.get(POINTERS, key)
    return reader.get(ENTITIES, pointer.value.id) if pointer is not None else None


def _factors(accessor: str, name: str) -> str:
    return f"{_ALIAS}/{accessor}/{key_of(name)}"


def new_entity(reader: Within, now: float, name: str = "") -> Entity:
    """A new one, not stored yet; without a name it gets one as the peer makes them."""
    while not name or reader.get(POINTERS, f"{_NAME}/{key_of(name)}") is not None:
        name = f"entity_{new_id()[:8]}.{reader.shown_id}"
    return Entity(id=reader.new_id(), name=name, created=now, updated=now)


def add(tx: Transaction, entity: Entity) -> Row[Entity]:
    """Store a new entity. Raises KmsError(CONFLICT) where its name or an alias is taken."""
    for key in _keys(entity):
        tx.insert(POINTERS, key, Pointer(entity.id))
    return tx.insert(ENTITIES, entity.id, entity)


def save(tx: Transaction, row: Row[Entity], entity: Entity) -> Row[Entity]:
    """Store a change, pointers too. Raises KmsError(CONFLICT) where a new name or alias is taken."""
    before, after = _keys(row.value), _keys(entity)
    for key in before - after:
        unpoint(tx, key)
    for key in after - before:
        tx.insert(POINTERS, key, Pointer(entity.id))
    return tx.replace(ENTITIES, row, entity)


def remove(tx: Transaction, row: Row[Entity]) -> None:
    """Delete an entity and what points at it; memberships are the caller's."""
    for key in _keys(row.value):
        unpoint(tx, key)
    tx.delete(ENTITIES, row)


def _keys(entity: Entity) -> set[str]:
    keys = {f"{_NAME}/{key_of(entity.name)}", *(f"{_MERGED}/{merged}" for merged in entity.merged_ids)}
    for alias in entity.aliases:
        keys |= {_factors(alias.mount_accessor, alias.name), f"{_ALIAS_ID}/{alias.id}"}
    return keys


def unpoint(tx: Transaction, key: str) -> None:
    """Delete a pointer."""
    row = tx.get(POINTERS, key)
    if row is not None:
        tx.delete(POINTERS, row)


def with_alias(entity: Entity, alias: Alias) -> Entity:
    """The entity with a new alias, or a new state of the alias with this id."""
    others = tuple(held for held in entity.aliases if held.id != alias.id)
    if len(others) == len(entity.aliases):
        return replace(entity, aliases=(*others, alias))
    return replace(entity, aliases=tuple(alias if held.id == alias.id else held for held in entity.aliases))


def alias_ids(reader: Reader) -> list[str]:
    """The ids of all aliases, sorted."""
    prefix = f"{_ALIAS_ID}/"
    return [key.removeprefix(prefix) for key in reader.keys(POINTERS, prefix)]
