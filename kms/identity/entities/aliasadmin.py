"""What the operations on aliases of entities do."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import invalid, not_found
from kms.identity.entities import records
from kms.identity.entities.model import Alias, Entity
from kms.identity.entities.shown import MountOf, alias_info, alias_object
from kms.identity.entities.spelling import checked, folded, pairs
from kms.identity.within import Within, Writing
from kms.operation import Call, Change, Result
from kms.tables import Row, Store, Transaction


class AliasHandlers:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock, mount_of: MountOf) -> None:
        self._store = store
        self._clock = clock
        self._mount_of = mount_of

    def read(self, call: Call) -> Result:
        """One alias."""
        alias_id = call.args["id"]
        reader = Within(self._store.reader(), call.namespace)
        row = records.by_alias_id(reader, alias_id)
        if row is None:
            raise not_found()
        return Result(data=alias_object(reader, records.alias_of(row.value, alias_id), self._mount_of))

    def listing(self, call: Call) -> Result:
        """All ids, with what they are."""
        reader = Within(self._store.reader(), call.namespace)
        ids = records.alias_ids(reader)
        if not ids:
            raise not_found()
        found = {alias_id: records.by_alias_id(reader, alias_id) for alias_id in ids}
        info = {
            alias_id: alias_info(reader, records.alias_of(row.value, alias_id), self._mount_of)
            for alias_id, row in found.items()
            if row is not None
        }
        return Result(data={"keys": list(info), "key_info": info}, items=len(info))

    def write(self, call: Call) -> Change:
        """Make an alias, or change one: found by id, else by mount and name."""
        args = call.args
        alias_id, name, accessor = (args.get(key) or "" for key in ("id", "name", "mount_accessor"))
        entity_id = args.get("canonical_id") or args.get("entity_id") or ""
        custom: dict[str, str] | None = None
        if "custom_metadata" in call.given:
            custom = pairs(args["custom_metadata"], "custom_metadata", least=1)
        if not alias_id and not (name and accessor):
            raise invalid("'id' or 'mount_accessor' and 'name' must be provided")
        if name:
            checked(name, "alias name")

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            if alias_id:
                row = records.by_alias_id(tx, alias_id)
                if row is None:
                    raise invalid("invalid alias ID provided")
                held = records.alias_of(row.value, alias_id)
                if not (name or accessor or entity_id) and custom is None:
                    return Result()
                kept = custom if custom is not None else held.custom_metadata
                wanted = replace(
                    held,
                    name=name or held.name,
                    mount_accessor=accessor or held.mount_accessor,
                    custom_metadata=kept or None,
                )
                return self._update(tx, row, held, wanted, entity_id)
            self._demand_mount(tx, accessor)
            row = records.by_alias(tx, accessor, name)
            if row is None:
                return self._create(tx, name, accessor, entity_id, custom)
            held = next(
                alias
                for alias in row.value.aliases
                if alias.mount_accessor == accessor and folded(alias.name) == folded(name)
            )
            wanted = replace(held, name=name, custom_metadata=custom or None)
            return self._update(tx, row, held, wanted, entity_id)

        return Change(write)

    def _demand_mount(self, tx: Writing, accessor: str) -> None:
        if self._mount_of(accessor, tx.namespace) is None:
            raise invalid(f'invalid mount accessor "{accessor}"')

    def _create(
        self, tx: Writing, name: str, accessor: str, entity_id: str, custom: dict[str, str] | None
    ) -> Result:
        now = self._clock.now()
        row = records.find(tx, entity_id) if entity_id else records.add(tx, records.new_entity(tx, now))
        if row is None:
            raise invalid("invalid canonical ID")
        if records.alias_at(row.value, accessor) is not None:
            raise invalid("Alias already exists for requested entity and mount accessor")
        alias = Alias(
            id=tx.new_id(),
            canonical_id=row.key,
            mount_accessor=accessor,
            name=name,
            custom_metadata=custom or None,
            created=now,
            updated=now,
        )
        records.save(tx, row, records.with_alias(row.value, alias))
        return _written(alias)

    def _update(self, tx: Writing, row: Row[Entity], held: Alias, wanted: Alias, entity_id: str) -> Result:
        moved = entity_id not in ("", row.key)
        if wanted == held and not moved:
            return Result()
        if wanted != held:
            self._demand_free(tx, row.value, held, wanted, moved=moved)
        wanted = replace(wanted, updated=self._clock.now())
        if not moved:
            records.save(tx, row, records.with_alias(row.value, wanted))
            return _written(wanted)
        target = records.find(tx, entity_id)
        if target is None:
            raise invalid("given 'canonical_id' is not associated with an entity")
        if records.alias_at(target.value, wanted.mount_accessor) is not None:
            raise invalid("Alias cannot be updated as the given entity already has an alias for this mount ")
        wanted = replace(wanted, canonical_id=target.key)
        left = tuple(alias for alias in row.value.aliases if alias.id != held.id)
        records.save(tx, row, replace(row.value, aliases=left))
        records.save(tx, target, records.with_alias(target.value, wanted))
        return _written(wanted)

    def _demand_free(self, tx: Writing, entity: Entity, held: Alias, wanted: Alias, *, moved: bool) -> None:
        elsewhere = wanted.mount_accessor != held.mount_accessor
        if elsewhere and not moved and records.alias_at(entity, wanted.mount_accessor) is not None:
            raise invalid(
                "Alias cannot be updated as the entity already has an alias for the given 'mount_accessor' "
            )
        self._demand_mount(tx, wanted.mount_accessor)
        other = records.by_alias(tx, wanted.mount_accessor, wanted.name)
        if other is not None and (
            other.key != entity.id or elsewhere or folded(wanted.name) != folded(held.name)
        ):
            raise invalid("alias with combination of mount accessor and name already exists")

    def delete(self, call: Call) -> Change:
        """Delete an alias; its entity stays."""
        alias_id = call.args["id"]

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = records.by_alias_id(tx, alias_id)
            if row is not None:
                left = tuple(alias for alias in row.value.aliases if alias.id != alias_id)
                records.save(tx, row, replace(row.value, aliases=left))
            return Result()

        return Change(write)


def _written(alias: Alias) -> Result:
    data: dict[str, Any] = {"id": alias.id, "canonical_id": alias.canonical_id}
    return Result(data=data, subject={"alias": alias.id, "entity": alias.canonical_id})
