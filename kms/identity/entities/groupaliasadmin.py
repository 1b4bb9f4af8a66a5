"""What the operations on aliases of external groups do."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import invalid, not_found
from kms.identity.entities import groups
from kms.identity.entities.model import EXTERNAL, Alias, Group
from kms.identity.entities.shown import MountOf, alias_info, alias_object
from kms.identity.entities.spelling import checked
from kms.identity.within import Within, Writing
from kms.operation import Call, Change, Result
from kms.tables import Reader, Row, Store, Transaction


class GroupAliasHandlers:
    """One per process, safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock, mount_of: MountOf) -> None:
        self._store = store
        self._clock = clock
        self._mount_of = mount_of

    def read(self, call: Call) -> Result:
        """One alias."""
        reader = Within(self._store.reader(), call.namespace)
        found = _held(reader, call.args["id"])
        if found is None:
            raise not_found()
        return Result(data=alias_object(reader, found[1], self._mount_of))

    def listing(self, call: Call) -> Result:
        """All ids, with what they are."""
        reader = Within(self._store.reader(), call.namespace)
        found = [_held(reader, alias_id) for alias_id in groups.alias_ids(reader)]
        info = {one[1].id: alias_info(reader, one[1], self._mount_of) for one in found if one is not None}
        if not info:
            raise not_found()
        return Result(data={"keys": list(info), "key_info": info}, items=len(info))

    def write(self, call: Call) -> Change:
        """Make an alias of a group, or change the one with this id."""
        args = call.args
        alias_id, name, accessor, group_id = (
            args.get(key) or "" for key in ("id", "name", "mount_accessor", "canonical_id")
        )
        if "id" in call.given and not alias_id:
            raise invalid("empty group alias ID")

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            found = _held(tx, alias_id) if alias_id else None
            if alias_id and found is None:
                raise invalid("invalid group alias ID")
            if not name:
                raise invalid("missing alias name")
            if not accessor:
                raise invalid("missing mount_accessor")
            held = found[1] if found is not None else None
            if (
                held is not None
                and (held.name, held.mount_accessor) == (name, accessor)
                and group_id in ("", held.canonical_id)
            ):
                return Result()
            target = _external(tx, group_id) if group_id else None
            if self._mount_of(accessor, tx.namespace) is None:
                raise invalid(f'invalid mount accessor "{accessor}"')
            other = groups.by_alias(tx, accessor, checked(name, "alias name"))
            if other is not None and (
                held is None or other.value.alias is None or other.value.alias.id != held.id
            ):
                raise invalid("combination of mount and group alias name is already in use")
            return self._put(tx, found, target, name, accessor)

        return Change(write)

    def _put(
        self,
        tx: Writing,
        found: tuple[Row[Group], Alias] | None,
        target: Row[Group] | None,
        name: str,
        accessor: str,
    ) -> Result:
        now = self._clock.now()
        if found is not None and target is not None and target.key != found[0].key:
            groups.save(tx, found[0], _with(found[0].value, None, now))
        elif found is not None:
            target = found[0]
        if target is None:
            target = groups.add(tx, replace(groups.new_group(tx, now), type=EXTERNAL))
        alias = Alias(
            id=found[1].id if found is not None else tx.new_id(),
            canonical_id=target.key,
            mount_accessor=accessor,
            name=name,
            created=found[1].created if found is not None else now,
            updated=now,
        )
        groups.save(tx, target, _with(target.value, alias, now))
        data: dict[str, Any] = {"id": alias.id, "canonical_id": target.key}
        return Result(data=data, subject={"alias": alias.id, "group": target.key})

    def delete(self, call: Call) -> Change:
        """Delete an alias; its group stays, with the members that it has."""

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            found = _held(tx, call.args["id"])
            if found is not None:
                groups.save(tx, found[0], _with(found[0].value, None, self._clock.now()))
            return Result()

        return Change(write)


def _held(reader: Reader, alias_id: str) -> tuple[Row[Group], Alias] | None:
    row = groups.by_alias_id(reader, alias_id)
    return (row, row.value.alias) if row is not None and row.value.alias is not None else None


def _external(reader: Reader, group_id: str) -> Row[Group]:
    row = groups.find(reader, group_id)
    if row is None:
        raise invalid("invalid group ID given in 'canonical_id'")
    if row.value.type != EXTERNAL:
        raise invalid("alias can't be set on an internal group")
    return row


def _with(group: Group, alias: Alias | None, now: float) -> Group:
    return replace(group, alias=alias, updated=now, index=group.index + 1)
