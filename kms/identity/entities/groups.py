"""Rows of groups, the pointers at them, and memberships."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kms.errors import invalid
from kms.identity.entities.model import GROUPS, MEMBERSHIPS, POINTERS, Group, Membership, Pointer
from kms.identity.entities.records import unpoint
from kms.identity.entities.spelling import key_of
from kms.identity.within import Within
from kms.ids import new_id
from kms.tables import Reader, Row, Transaction

_NAME: Final = "group-name"
_ALIAS: Final = "group-alias"
_ALIAS_ID: Final = "group-alias-id"
ENTITY: Final = "e"
GROUP: Final = "g"
# Groups above an entity, over all ways; a request never walks further.
MAX_GROUPS: Final = 1_000


def find(reader: Reader, group_id: str) -> Row[Group] | None:
    """The group with this id."""
    return reader.get(GROUPS, group_id)


def by_name(reader: Reader, name: str) -> Row[Group] | None:
    """The group of this name, in whatever case. Raises KmsError(INVALID)."""
    return _pointed(reader, f"{_NAME}/{key_of(name)}")


def by_alias(reader: Reader, accessor: str, name: str) -> Row[Group] | None:
    """The external group that logins at a mount call so. Raises KmsError(INVALID)."""
    return _pointed(reader, _factors(accessor, name))


def by_alias_id(reader: Reader, alias_id: str) -> Row[Group] | None:
    """The group of an alias."""
    return _pointed(reader, f"{_ALIAS_ID}/{alias_id}")


def _pointed(reader: Reader, key: str) -> Row[Group] | None:
    pointer = reader.get(POINTERS, key)
    return reader.get(GROUPS, pointer.value.id) if pointer is not None else None


def _factors(accessor: str, name: str) -> str:
    return f"{_ALIAS}/{accessor}/{key_of(name)}"


def new_group(reader: Within, now: float, name: str = "") -> Group:
    """A new one, not stored yet; without a name it gets one as the peer makes them."""
    while not name or reader.get(POINTERS, f"{_NAME}/{key_of(name)}") is not None:
        name = f"group_{new_id()[:8]}.{reader.shown_id}"
    return Group(id=reader.new_id(), name=name, created=now, updated=now)


def add(tx: Transaction, group: Group) -> Row[Group]:
    """Store a new group. Raises KmsError(CONFLICT) where its name or alias is taken."""
    for key in _keys(group):
        tx.insert(POINTERS, key, Pointer(group.id))
    return tx.insert(GROUPS, group.id, group)


def save(tx: Transaction, row: Row[Group], group: Group) -> Row[Group]:
    """Store a change, pointers too. Raises KmsError(CONFLICT) where a new name or alias is taken."""
    before, after = _keys(row.value), _keys(group)
    for key in before - after:
        unpoint(tx, key)
    for key in after - before:
        tx.insert(POINTERS, key, Pointer(group.id))
    return tx.replace(GROUPS, row, group)


def remove(tx: Transaction, row: Row[Group]) -> None:
    """Delete a group, what points at it, and every membership in it and of it."""
    for key in _keys(row.value):
        unpoint(tx, key)
    for member in tx.find(MEMBERSHIPS, {"group_id": row.key}):
        tx.delete(MEMBERSHIPS, member)
    leave_all(tx, GROUP, row.key)
    tx.delete(GROUPS, row)


def _keys(group: Group) -> set[str]:
    keys = {f"{_NAME}/{key_of(group.name)}"}
    if group.alias is not None:
        keys |= {_factors(group.alias.mount_accessor, group.alias.name), f"{_ALIAS_ID}/{group.alias.id}"}
    return keys


def alias_ids(reader: Reader) -> list[str]:
    """The ids of all group aliases, sorted."""
    prefix = f"{_ALIAS_ID}/"
    return [key.removeprefix(prefix) for key in reader.keys(POINTERS, prefix)]


# -- members ---------------------------------------------------------------------------------------------


def members(reader: Reader, kind: str, group_id: str) -> list[str]:
    """Ids of the members of a kind, sorted."""
    rows = reader.find(MEMBERSHIPS, {"group_id": group_id})
    return sorted(row.value.member_id for row in rows if row.key.startswith(f"{kind}/"))


def above(reader: Reader, kind: str, member_id: str) -> list[str]:
    """Ids of the groups that somebody is a direct member of, sorted."""
    return [row.value.group_id for row in reader.scan(MEMBERSHIPS, f"{kind}/{member_id}/")]


def join(tx: Transaction, kind: str, member_id: str, group_id: str) -> None:
    """Make somebody a member; one who is, stays so."""
    key = f"{kind}/{member_id}/{group_id}"
    if tx.get(MEMBERSHIPS, key) is None:
        tx.insert(MEMBERSHIPS, key, Membership(group_id=group_id, member_id=member_id))


def leave(tx: Transaction, kind: str, member_id: str, group_id: str) -> None:
    """End a membership."""
    row = tx.get(MEMBERSHIPS, f"{kind}/{member_id}/{group_id}")
    if row is not None:
        tx.delete(MEMBERSHIPS, row)


def leave_all(tx: Transaction, kind: str, member_id: str) -> list[str]:
    """End all memberships of somebody; the ids of the groups."""
    rows = tx.scan(MEMBERSHIPS, f"{kind}/{member_id}/")
    for row in rows:
        tx.delete(MEMBERSHIPS, row)
    return [row.value.group_id for row in rows]


def set_members(tx: Transaction, kind: str, group_id: str, wanted: Iterable[str]) -> None:
    """Make exactly these the members of a kind. They exist."""
    before, after = set(members(tx, kind, group_id)), set(wanted)
    for member_id in before.difference(after):
        leave(tx, kind, member_id, group_id)
    for member_id in sorted(after - before):
        join(tx, kind, member_id, group_id)


def demand_no_cycle(reader: Reader, group_id: str, member_group_id: str) -> None:
    """Raise KmsError(INVALID) where the group stands, over any way, below the one that is to be its member."""
    seen, below = set[str](), [member_group_id]
    while below:
        at = below.pop()
        if at == group_id:
            raise invalid(f'cyclic relationship detected for member group ID "{member_group_id}"')
        if at not in seen:
            seen.add(at)
            below += members(reader, GROUP, at)
