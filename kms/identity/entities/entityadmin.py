"""What the operations on entities do."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import invalid, not_found
from kms.identity.entities import groups, records
from kms.identity.entities.model import ENTITIES, Entity
from kms.identity.entities.shown import MountOf, entity_info, entity_object
from kms.identity.entities.spelling import checked, pairs, policies
from kms.identity.within import Within, Writing
from kms.operation import Call, Change, Result
from kms.tables import Reader, Row, Store, Transaction


class EntityHandlers:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock, mount_of: MountOf) -> None:
        self._store = store
        self._clock = clock
        self._mount_of = mount_of

    # -- reading -----------------------------------------------------------------------------------------

    def read_by_id(self, call: Call) -> Result:
        """One entity."""
        reader = self._own(call)
        return self._shown(reader, records.find(reader, call.args["id"]))

    def read_by_name(self, call: Call) -> Result:
        """One entity, by the spelling of its name that is shown: a path has one spelling."""
        reader = self._own(call)
        return self._shown(reader, exact(reader, call.args["name"]))

    def _own(self, call: Call) -> Within:
        return Within(self._store.reader(), call.namespace)

    def _shown(self, reader: Within, row: Row[Entity] | None) -> Result:
        if row is None:
            raise not_found()
        data = entity_object(reader, row.value, self._mount_of)
        return Result(data=data, subject={"entity": row.key})

    def list_ids(self, call: Call) -> Result:
        """All ids, with names and aliases."""
        reader = self._own(call)
        rows = self._all(reader)
        info = {row.key: entity_info(reader, row.value, self._mount_of) for row in rows}
        return Result(data={"keys": [row.key for row in rows], "key_info": info}, items=len(rows))

    def list_names(self, call: Call) -> Result:
        """All names, in the order of ids."""
        rows = self._all(self._own(call))
        return Result(data={"keys": [row.value.name for row in rows]}, items=len(rows))

    @staticmethod
    def _all(reader: Within) -> list[Row[Entity]]:
        rows = reader.scan(ENTITIES)
        if not rows:
            raise not_found()
        return rows

    def lookup(self, call: Call) -> Result:
        """By id, name, alias id, or alias name and mount; 204 where there is none."""
        kind, value = wanted(call)
        reader = self._own(call)
        row = {
            "id": lambda: records.find(reader, value),
            "name": lambda: records.by_name(reader, value) if value else None,
            "alias_id": lambda: records.by_alias_id(reader, value),
            "alias_name": lambda: records.by_alias(reader, call.args["alias_mount_accessor"], value),
        }[kind]()
        return self._shown(reader, row) if row is not None else Result()

    # -- writing -----------------------------------------------------------------------------------------

    def write(self, call: Call) -> Change:
        """Make or change an entity, found by id, else by name."""
        args, given = call.args, call.given
        entity_id, name = args.get("id") or "", args.get("name") or ""
        changes = changes_of(args, given)
        now = self._clock.now()

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = records.find(tx, entity_id) if entity_id else None
            if entity_id and row is None:
                raise invalid("entity not found from id")
            row = _by_name(tx, row, checked(name), in_path="name" in call.bound) if name else row
            if row is None:
                made = replace(records.new_entity(tx, now, name), **changes)
                records.add(tx, made)
                data: dict[str, Any] = {"id": made.id, "name": made.name, "aliases": None}
                return Result(data=data, subject={"entity": made.id})
            renamed = {"name": name} if name else {}
            records.save(tx, row, replace(row.value, **changes, **renamed, updated=now))
            return Result(subject={"entity": row.key})

        return Change(write)

    def delete_by_id(self, call: Call) -> Change:
        """Delete; its tokens are out of force from the commit on."""
        return Change(
            lambda rows: _deleted(tx := Writing(rows, call.namespace), records.find(tx, call.args["id"]))
        )

    def delete_by_name(self, call: Call) -> Change:
        """The same, by the spelling of its name that is shown."""
        return Change(
            lambda rows: _deleted(tx := Writing(rows, call.namespace), exact(tx, call.args["name"]))
        )

    def batch_delete(self, call: Call) -> Change:
        """Delete several; ids of none are no error."""
        ids = list(dict.fromkeys(call.args.get("entity_ids") or []))
        if not ids:
            raise invalid("missing entity ids to delete")

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            for entity_id in ids:
                _deleted(tx, records.find(tx, entity_id))
            return Result(items=len(ids))

        return Change(write)


def changes_of(args: dict[str, Any], given: frozenset[str]) -> dict[str, Any]:
    """The fields of an entity that the client sent, checked. Raises KmsError(INVALID)."""
    changes: dict[str, Any] = {}
    if "policies" in given:
        changes["policies"] = policies(args["policies"])
    if "disabled" in given:
        changes["disabled"] = args["disabled"]
    if "metadata" in given:
        changes["metadata"] = pairs(args["metadata"], "metadata")
    return changes


def exact(reader: Reader, name: str) -> Row[Entity] | None:
    """The entity of this name in this case: a rule about a path must not be passed by another spelling of it."""
    row = records.by_name(reader, name)
    return row if row is not None and row.value.name == name else None


def wanted(call: Call) -> tuple[str, str]:
    """Which field of a look-up was sent, and its value. Raises KmsError(INVALID) for none, and for several."""
    args = call.args
    at_mount = not call.given.isdisjoint({"alias_name", "alias_mount_accessor"})
    found = [name for name in ("id", "name", "alias_id") if name in call.given]
    if not found and not at_mount:
        raise invalid("query parameter not supplied")
    if len(found) + at_mount > 1:
        raise invalid("query parameter conflict; please supply distinct set of query parameters")
    if at_mount and not (args.get("alias_name") and args.get("alias_mount_accessor")):
        raise invalid("both 'alias_name' and 'alias_mount_accessor' needs to be set")
    kind = "alias_name" if at_mount else found[0]
    return kind, args[kind]


def _by_name(tx: Transaction, row: Row[Entity] | None, name: str, *, in_path: bool) -> Row[Entity] | None:
    held = records.by_name(tx, name)
    if held is None:
        return row
    if row is not None and row.key != held.key:
        raise invalid("entity name is already in use")
    if in_path and held.value.name != name:
        raise invalid(f"this name is known as {held.value.name!r}; use that spelling in the path")
    return held


def _deleted(tx: Transaction, row: Row[Entity] | None) -> Result:
    if row is None:
        return Result()
    groups.leave_all(tx, groups.ENTITY, row.key)
    records.remove(tx, row)
    return Result(subject={"entity": row.key})
