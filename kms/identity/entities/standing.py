"""What an entity is at this moment, in memory, and current in every worker at its next request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kms.identity.entities import groups, records
from kms.identity.entities.model import ENTITIES, GROUPS, MEMBERSHIPS, Entity, Group, Standing
from kms.identity.within import Within, of_id
from kms.operation import MountRef
from kms.tables import Reader, Store

_KEPT: Final = 8_192


def standing_of(rows: Reader, entity_id: str) -> Standing | None:
    """The standing of an entity, or of the one that it was merged into; None when there is none.

    Args:
        rows: those of all namespaces; the ID, which a token or a login named, tells its own.
        entity_id: the entity.
    """
    reader = of_id(rows, entity_id)
    row = records.followed(reader, entity_id)
    if row is None:
        return None
    entity = row.value
    held, direct = groups_of(reader, entity.id)
    names = {name for group in held for name in group.policies or ()} | set(entity.policies)
    return Standing(entity, tuple(sorted(names)), held, direct, _values(entity, held))


def groups_of(reader: Reader, entity_id: str) -> tuple[tuple[Group, ...], int]:
    """The groups of an entity, nearest first, each once; and how many of them are direct."""
    ids = groups.above(reader, groups.ENTITY, entity_id)
    direct = len(ids)
    seen = set(ids)
    at = 0
    while at < len(ids) and len(ids) < groups.MAX_GROUPS:
        for parent in groups.above(reader, groups.GROUP, ids[at]):
            if parent not in seen:
                seen.add(parent)
                ids.append(parent)
        at += 1
    rows = (groups.find(reader, group_id) for group_id in ids)
    return tuple(row.value for row in rows if row is not None), direct


def _values(entity: Entity, held: tuple[Group, ...]) -> dict[str, str]:
    """Every name that a template may hold, as the peer has them."""
    values = {"identity.entity.id": entity.id, "identity.entity.name": entity.name}
    _pairs(values, "identity.entity.metadata", entity.metadata)
    for alias in entity.aliases:
        at = f"identity.entity.aliases.{alias.mount_accessor}"
        values |= {f"{at}.id": alias.id, f"{at}.name": alias.name}
        _pairs(values, f"{at}.metadata", alias.metadata)
        _pairs(values, f"{at}.custom_metadata", alias.custom_metadata)
    for group in held:
        by_id, by_name = f"identity.groups.ids.{group.id}", f"identity.groups.names.{group.name}"
        values |= {f"{by_id}.name": group.name, f"{by_name}.id": group.id}
        values |= {f"{by_id}.id": group.id, f"{by_name}.name": group.name}
        _pairs(values, f"{by_id}.metadata", group.metadata)
        _pairs(values, f"{by_name}.metadata", group.metadata)
    return values


def _pairs(values: dict[str, str], at: str, metadata: dict[str, str] | None) -> None:
    for name, value in (metadata or {}).items():
        values[f"{at}.{name}"] = value


@dataclass(frozen=True, slots=True)
class _Listener:
    """Hears of one table (kms.tables.CacheListener)."""

    drop: Callable[[str], None]
    clear: Callable[[], None]


class Directory:
    """Standings by entity id. One per process, safe to use from several threads; as of the last `Store.refresh`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, Standing] = {}
        self._epoch = 0
        self._lock = threading.Lock()
        store.watch(ENTITIES, _Listener(self._forget, self.clear))
        store.watch(MEMBERSHIPS, _Listener(self._member, self.clear))
        # A group's policies are those of all its members, and theirs.
        store.watch(GROUPS, _Listener(lambda _key: self.clear(), self.clear))

    def standing(self, entity_id: str) -> Standing | None:
        """The standing of an entity, disabled or not; None when it is gone."""
        held = self._held.get(entity_id)
        if held is not None:
            return held
        # A change that arrives between our read and our insert must win: remember the epoch first.
        before = self._epoch
        found = standing_of(self._store.reader(), entity_id)
        # Under the id of an entity that was merged away nothing is kept: no announcement would name it.
        if found is not None and found.entity.id == entity_id:
            with self._lock:
                if self._epoch == before:
                    if len(self._held) >= _KEPT:
                        self._held.pop(next(iter(self._held)))
                    self._held[entity_id] = found
        return found

    def of_alias(self, mount: MountRef, name: str) -> Standing | None:
        """The standing of the entity that has this name at a mount. Raises KmsError(INVALID)."""
        row = records.by_alias(Within(self._store.reader(), mount.namespace), mount.accessor, name)
        return self.standing(row.key) if row is not None else None

    def policies(self, entity_id: str) -> tuple[str, ...]:
        """What the entity adds to its tokens' own policies; nothing where there is none."""
        standing = self.standing(entity_id) if entity_id else None
        return standing.policies if standing is not None else ()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._epoch += 1
            self._held = {}

    def _forget(self, key: str) -> None:
        entity_id = key.rpartition("/")[2]  # behind the namespace's ID
        with self._lock:
            self._epoch += 1
            self._held.pop(entity_id, None)

    def _member(self, key: str) -> None:
        kind, member_id, _group = key.split("/")[-3:]
        if kind == groups.ENTITY:
            self._forget(member_id)
        else:
            self.clear()
