"""What a login does: it finds or makes the entity, keeps the alias current, and moves it in and out of external groups."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.entities import groups, records
from kms.identity.entities.model import EXTERNAL, Alias, Standing
from kms.identity.entities.spelling import checked, pairs
from kms.identity.entities.standing import groups_of, standing_of
from kms.identity.within import Writing
from kms.operation import MountRef
from kms.tables import Transaction


def enter(
    tx: Transaction,
    mount: MountRef,
    name: str,
    metadata: dict[str, str],
    called: Iterable[str],
    now: float,
) -> Standing:
    """The standing of whoever logged in, written in the login's own commit.

    Args:
        tx: the login's transaction.
        mount: the auth mount.
        name: what the method calls the caller: the alias.
        metadata: what the method says about the caller; it replaces what an earlier login said.
        called: names of groups that the method says the caller is in. Those that an alias of an external group of this
            mount has count, and the caller leaves all others of this mount.
        now: seconds since the epoch.

    Raises:
        KmsError(INVALID): the name has another spelling than the one that is known, or is not allowed.
        KmsError(DENIED): the entity is disabled.
    """
    own = Writing(tx, mount.namespace)
    row = records.by_alias(own, mount.accessor, checked(name, "alias name"))
    said = pairs(dict(metadata), "alias metadata") or None
    if row is None:
        entity = records.new_entity(own, now)
        alias = Alias(
            id=own.new_id(),
            canonical_id=entity.id,
            mount_accessor=mount.accessor,
            name=name,
            metadata=said,
            created=now,
            updated=now,
        )
        row = records.add(own, replace(entity, aliases=(alias,)))
    else:
        held = next(a for a in row.value.aliases if a.mount_accessor == mount.accessor)
        if held.name != name:
            # Two spellings at the identity provider may be two people; here they would be one (CVE-2025-6013).
            raise invalid(f"this name is known here as {held.name!r}; log in with that spelling")
        if row.value.disabled:
            raise KmsError(ErrorKind.DENIED, "permission denied")
        if held.metadata != said:
            row = records.save(
                own, row, records.with_alias(row.value, replace(held, metadata=said, updated=now))
            )
    follow(tx, mount, row.key, called)
    standing = standing_of(tx, row.key)
    if standing is None:
        raise KmsError(ErrorKind.CONFLICT, "the entity was deleted at the same time; log in again")
    return standing


def follow(tx: Transaction, mount: MountRef, entity_id: str, called: Iterable[str]) -> None:
    """Make the entity, which is of the mount's namespace, a member of exactly those external groups that the method names.

    Also for renewals, where a method asks its source again.
    """
    own, wanted = Writing(tx, mount.namespace), set[str]()
    for name in dict.fromkeys(called):
        try:
            group = groups.by_alias(own, mount.accessor, name)
        except KmsError:
            continue  # a name that no group can have: the source has groups that are of no interest here
        if group is not None:
            wanted.add(group.key)
    held, direct = groups_of(own, entity_id)
    for group_ in held[:direct]:
        of_mount = group_.alias is not None and group_.alias.mount_accessor == mount.accessor
        if group_.type == EXTERNAL and of_mount and group_.id not in wanted:
            groups.leave(own, groups.ENTITY, entity_id, group_.id)
    for group_id in sorted(wanted):
        groups.join(own, groups.ENTITY, entity_id, group_id)
