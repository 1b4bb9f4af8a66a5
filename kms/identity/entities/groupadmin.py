"""What the operations on groups do."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import invalid, not_found
from kms.identity.entities import groups, records
from kms.identity.entities.entityadmin import wanted
from kms.identity.entities.model import EXTERNAL, GROUPS, INTERNAL, Group
from kms.identity.entities.shown import MountOf, group_info, group_object
from kms.identity.entities.spelling import checked, pairs, policies
from kms.identity.within import Within, Writing
from kms.operation import Call, Change, Result
from kms.tables import Reader, Row, Store, Transaction


class GroupHandlers:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock, mount_of: MountOf) -> None:
        self._store = store
        self._clock = clock
        self._mount_of = mount_of

    # -- reading -----------------------------------------------------------------------------------------

    def read_by_id(self, call: Call) -> Result:
        """One group."""
        reader = self._own(call)
        return self._shown(reader, groups.find(reader, call.args["id"]))

    def read_by_name(self, call: Call) -> Result:
        """One group, by the spelling of its name that is shown: a path has one spelling."""
        reader = self._own(call)
        return self._shown(reader, _exact(reader, call.args["name"]))

    def _own(self, call: Call) -> Within:
        return Within(self._store.reader(), call.namespace)

    def _shown(self, reader: Within, row: Row[Group] | None) -> Result:
        if row is None:
            raise not_found()
        data = group_object(reader, row.value, self._mount_of)
        return Result(data=data, subject={"group": row.key})

    def list_ids(self, call: Call) -> Result:
        """All ids, with what they are."""
        reader = self._own(call)
        rows = self._all(reader)
        info = {row.key: group_info(reader, row.value, self._mount_of) for row in rows}
        return Result(data={"keys": [row.key for row in rows], "key_info": info}, items=len(rows))

    def list_names(self, call: Call) -> Result:
        """All names, in the order of ids."""
        rows = self._all(self._own(call))
        return Result(data={"keys": [row.value.name for row in rows]}, items=len(rows))

    @staticmethod
    def _all(reader: Within) -> list[Row[Group]]:
        rows = reader.scan(GROUPS)
        if not rows:
            raise not_found()
        return rows

    def lookup(self, call: Call) -> Result:
        """By id, name, alias id, or alias name and mount; 204 where there is none."""
        kind, value = wanted(call)
        reader = self._own(call)
        row = {
            "id": lambda: groups.find(reader, value),
            "name": lambda: groups.by_name(reader, value) if value else None,
            "alias_id": lambda: groups.by_alias_id(reader, value),
            "alias_name": lambda: groups.by_alias(reader, call.args["alias_mount_accessor"], value),
        }[kind]()
        return self._shown(reader, row) if row is not None else Result()

    # -- writing -----------------------------------------------------------------------------------------

    def write(self, call: Call) -> Change:
        """Make or change a group, found by id where one is given, else by name."""
        args, given = call.args, call.given
        by_id = "id" in given and "name" not in call.bound
        if by_id and not args["id"]:
            raise invalid("empty group ID")
        if not by_id and "name" in given and not args["name"]:
            raise invalid("empty group name")
        name = args.get("name") or ""
        changes = _changes(args, given)

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            row = self._found(tx, call, checked(name) if name else "", by_id=by_id)
            before = row.value if row is not None else None
            group = before or replace(groups.new_group(tx, self._clock.now(), name), type=_type(args))
            if before is not None and "type" in given and args["type"] != before.type:
                raise invalid("group type cannot be changed")
            _demand_members(tx, group, args, given)
            if row is None:
                groups.add(tx, replace(group, **changes))
            else:
                stamp: dict[str, Any] = {"updated": self._clock.now(), "index": group.index + 1}
                stamp |= {"name": name} if name else {}
                groups.save(tx, row, replace(group, **changes, **stamp))
            _set_members(tx, group, args, given)
            data = {"id": group.id, "name": name or group.name} if row is None else None
            return Result(data=data, subject={"group": group.id})

        return Change(write)

    @staticmethod
    def _found(tx: Transaction, call: Call, name: str, *, by_id: bool) -> Row[Group] | None:
        row = None
        if by_id:
            row = groups.find(tx, call.args["id"])
            if row is None:
                raise invalid("invalid group ID")
        held = groups.by_name(tx, name) if name else None
        if held is None:
            return row
        if row is not None and row.key != held.key:
            raise invalid("group name is already in use")
        if "name" in call.bound and held.value.name != name:
            raise invalid(f"this name is known as {held.value.name!r}; use that spelling in the path")
        return held

    def delete_by_id(self, call: Call) -> Change:
        """Delete; its policies are gone from its members at their next request."""
        return Change(
            lambda rows: _deleted(tx := Writing(rows, call.namespace), groups.find(tx, call.args["id"]))
        )

    def delete_by_name(self, call: Call) -> Change:
        """The same, by the spelling of its name that is shown."""
        return Change(
            lambda rows: _deleted(tx := Writing(rows, call.namespace), _exact(tx, call.args["name"]))
        )


def _changes(args: dict[str, Any], given: frozenset[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "policies" in given:
        changes["policies"] = policies(args["policies"])
    if "metadata" in given:
        changes["metadata"] = pairs(args["metadata"], "metadata")
    return changes


def _type(args: dict[str, Any]) -> str:
    kind: str = args.get("type") or INTERNAL
    if kind not in {INTERNAL, EXTERNAL}:
        raise invalid(f'invalid group type "{kind}"')
    return kind


def _demand_members(tx: Transaction, group: Group, args: dict[str, Any], given: frozenset[str]) -> None:
    """Raise KmsError(INVALID) unless the members that were sent may be members."""
    if group.type == EXTERNAL:
        if "member_entity_ids" in given:
            raise invalid("member entities can't be set manually for external groups")
        if "member_group_ids" in given:
            raise invalid("member groups can't be set for external groups")
        return
    for entity_id in args.get("member_entity_ids") or ():
        if records.find(tx, entity_id) is None:
            raise invalid(f'invalid entity ID "{entity_id}"')
    for group_id in args.get("member_group_ids") or ():
        if group_id == group.id:
            raise invalid(f'member group ID "{group_id}" is same as the ID of the group')
        if groups.find(tx, group_id) is None:
            raise invalid(f'invalid member group ID "{group_id}"')
        groups.demand_no_cycle(tx, group.id, group_id)


def _set_members(tx: Transaction, group: Group, args: dict[str, Any], given: frozenset[str]) -> None:
    if "member_entity_ids" in given:
        groups.set_members(tx, groups.ENTITY, group.id, args["member_entity_ids"])
    if "member_group_ids" in given:
        groups.set_members(tx, groups.GROUP, group.id, args["member_group_ids"])


def _exact(reader: Reader, name: str) -> Row[Group] | None:
    """The group of this name in this case: a rule about a path must not be passed by another spelling of it."""
    row = groups.by_name(reader, name)
    return row if row is not None and row.value.name == name else None


def _deleted(tx: Transaction, row: Row[Group] | None) -> Result:
    if row is None:
        return Result()
    groups.remove(tx, row)
    return Result(subject={"group": row.key})
