"""Making one entity of several: aliases, memberships and tokens of the others become its own."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from kms.clock import Clock
from kms.errors import ErrorKind, KmsError, invalid
from kms.identity.entities import groups, records
from kms.identity.entities.model import Alias, Entity
from kms.identity.entities.shown import MountOf
from kms.identity.within import Writing
from kms.operation import Call, Change, Result
from kms.tables import Row, Store, Transaction


@dataclass(frozen=True)
class _Clash:
    """An alias of each of two entities at one mount."""

    to: Entity
    to_alias: Alias
    other: Entity
    other_alias: Alias

    def text(self) -> str:
        return (
            f"mountAccessor: {self.to_alias.mount_accessor}, toEntity ID: {self.to.id}, "
            f"fromEntity ID: {self.other.id}, conflicting toEntity alias ID: {self.to_alias.id}, "
            f"conflicting fromEntity alias ID: {self.other_alias.id}"
        )


class Merger:
    """The operation `entity/merge`. One per process."""

    def __init__(self, store: Store, clock: Clock, mount_of: MountOf) -> None:
        self._store = store
        self._clock = clock
        self._mount_of = mount_of

    def merge(self, call: Call) -> Change:
        """Policies are not merged: they are the target's, as the peer has it."""
        target_id = call.args.get("to_entity_id") or ""
        sources = sorted(set(call.args.get("from_entity_ids") or []))
        keep = set(call.args.get("conflicting_alias_ids_to_keep") or [])
        if not target_id:
            raise invalid("missing entity id to merge to")
        if not sources:
            raise invalid("missing entity ids to merge from")

        def write(rows: Transaction) -> Result:
            tx = Writing(rows, call.namespace)
            target = records.find(tx, target_id)
            if target is None:
                raise invalid("entity id to merge to is invalid")
            if len(sources) > 1 and len(keep) > 1:
                raise invalid(
                    "aliases conflicts cannot be resolved with multiple from entity ids - merge one entity at a time"
                )
            taken = [self._source(tx, target, source) for source in sources]
            if not keep:
                self._demand_apart(tx, target.value, [row.value for row in taken])
            for row in taken:
                target = self._take(tx, target, row, keep)
            return Result(subject={"entity": target_id, "merged": len(taken)})

        return Change(write)

    @staticmethod
    def _source(tx: Transaction, target: Row[Entity], source: str) -> Row[Entity]:
        if source == target.key:
            raise invalid("to_entity_id should not be present in from_entity_ids")
        row = records.find(tx, source)
        if row is None:
            raise invalid("entity id to merge from is invalid")
        return row

    def _demand_apart(self, tx: Writing, target: Entity, sources: list[Entity]) -> None:
        seen: dict[str, str] = {}
        clashes: list[_Clash] = []
        for source in sources:
            for alias in source.aliases:
                if seen.setdefault(alias.mount_accessor, source.id) != source.id:
                    raise invalid(
                        f"mount accessor {alias.mount_accessor} found in multiple fromEntities, merge should be done "
                        "with one fromEntity at a time"
                    )
                held = records.alias_at(target, alias.mount_accessor)
                if held is not None:
                    clashes.append(_Clash(target, held, source, alias))
        if clashes:
            raise self._refused(tx, clashes)

    def _refused(self, tx: Writing, clashes: list[_Clash]) -> KmsError:
        first = (
            "toEntity and at least one fromEntity have aliases with the same mount accessor, repeat the merge request "
            "specifying exactly one fromEntity, clashes: "
        )
        texts = [first, *(clash.text() for clash in clashes)]
        listed = "".join(f"\n\t* {text}" for text in texts)
        sides = [
            side
            for clash in clashes
            for side in ((clash.to, clash.to_alias), (clash.other, clash.other_alias))
        ]
        data = [self._side(tx, entity, alias) for entity, alias in sides]
        return KmsError(ErrorKind.INVALID, f"{len(texts)} errors occurred:{listed}\n\n", data=data)

    def _side(self, tx: Writing, entity: Entity, alias: Alias) -> dict[str, str]:
        mount = self._mount_of(alias.mount_accessor, tx.namespace)
        return {
            "alias": alias.name,
            "entity": entity.name,
            "entity_id": entity.id,
            "mount": mount.type if mount is not None else "",
            "mount_path": mount.place if mount is not None else "",
        }

    def _take(self, tx: Transaction, target: Row[Entity], row: Row[Entity], keep: set[str]) -> Row[Entity]:
        aliases = list(target.value.aliases)
        for alias in row.value.aliases:
            held = next((one for one in aliases if one.mount_accessor == alias.mount_accessor), None)
            if held is not None and held.id in keep:
                continue
            if held is not None and alias.id not in keep:
                raise invalid(
                    "conflicting mount accessors in following alias IDs and neither were present in "
                    f"conflicting_alias_ids_to_keep: {alias.id}, {held.id}"
                )
            if held is not None:
                aliases.remove(held)
            aliases.append(replace(alias, canonical_id=target.key, merged_from=(*alias.merged_from, row.key)))
        for group_id in groups.leave_all(tx, groups.ENTITY, row.key):
            groups.join(tx, groups.ENTITY, target.key, group_id)
        records.remove(tx, row)
        merged = (*target.value.merged_ids, *row.value.merged_ids, row.key)
        changed = replace(target.value, aliases=tuple(aliases), merged_ids=merged, updated=self._clock.now())
        return records.save(tx, target, changed)
