"""Named entries of a method (roles, trusted certificates, groups), below the mount's id: what all of them have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from kms.errors import ErrorKind, KmsError, not_found
from kms.ids import check_name
from kms.operation import Call, Capability, Change, Effect, Field, MountRef, Operation, Record, Result
from kms.tables import Reader, Row, Store, Table, Transaction

E = TypeVar("E", bound=msgspec.Struct)


class Shelf(Generic[E]):
    """Handlers of one kind of entries. Stateless, safe to use from several threads.

    Args:
        changed: (entry or None, given fields) -> (the new entry, warnings); raises KmsError(INVALID).
        shown: the entry as the API shows it.
        spelled: checks a name and gives its one spelling; the default takes names in lower case.
        field: the path parameter that holds the name.
    """

    def __init__(
        self,
        store: Store,
        table: Table[E],
        changed: Callable[[E | None, Mapping[str, Any]], tuple[E, tuple[str, ...]]],
        shown: Callable[[E], dict[str, Any]],
        *,
        spelled: Callable[[str], str] = lambda name: check_name(name, "role name").lower(),
        field: str = "name",
    ) -> None:
        self._store = store
        self.table = table
        self._changed = changed
        self._shown = shown
        self._spelled = spelled
        self._field = field

    def key(self, mount: MountRef, name: str) -> str:
        """The row key. Raises KmsError(INVALID) for what cannot be a name."""
        return f"{mount.id}/{self._spelled(name)}"

    def row(self, reader: Reader, mount: MountRef, name: str) -> Row[E] | None:
        """The entry, or None."""
        return reader.get(self.table, self.key(mount, name))

    def all(self, mount_id: str) -> list[tuple[str, Row[E]]]:
        """(name, entry) of every one, by name."""
        prefix = f"{mount_id}/"
        found = self._store.reader().scan(self.table, prefix)
        return [(row.key.removeprefix(prefix), row) for row in found]

    def unchanged(self, tx: Transaction, row: Row[E]) -> None:
        """Raise KmsError(CONFLICT) unless the entry is still the one that a proof was checked against."""
        now = tx.get(self.table, row.key)
        if now is None or now.revision != row.revision:
            raise KmsError(ErrorKind.CONFLICT, "the role was changed at the same time; log in again")

    def retire(self, tx: Transaction, mount_id: str) -> int:
        """Delete all of a mount that is being removed; how many."""
        rows = tx.scan(self.table, f"{mount_id}/")
        for row in rows:
            tx.delete(self.table, row)
        return len(rows)

    # -- handlers ----------------------------------------------------------------------------------------

    def exists(self, call: Call) -> bool:
        """Whether it is there: creating and updating are different rights."""
        return self._of(call, self._store.reader()) is not None

    def read(self, call: Call) -> Result:
        row = self._of(call, self._store.reader())
        if row is None:
            raise not_found()
        return Result(data=self._shown(row.value))

    def listing(self, call: Call) -> Result:
        prefix = f"{call.mount.id}/"
        names = [key.removeprefix(prefix) for key in self._store.reader().keys(self.table, prefix)]
        if not names:
            raise not_found()
        return Result(data={"keys": names})

    def write(self, call: Call) -> Change:
        given = {name: call.args[name] for name in call.given if name != self._field}

        def write(tx: Transaction) -> Result:
            row = self._of(call, tx)
            entry, warnings = self._changed(row.value if row is not None else None, given)
            if row is None:
                tx.insert(self.table, self.key(call.mount, call.args[self._field]), entry)
            else:
                tx.replace(self.table, row, entry)
            return Result(warnings=warnings, subject=self._subject(call))

        return Change(write)

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            row = self._of(call, tx)
            if row is not None:
                tx.delete(self.table, row)
            return Result(subject=self._subject(call))

        return Change(write)

    def _of(self, call: Call, reader: Reader) -> Row[E] | None:
        return self.row(reader, call.mount, str(call.args[self._field]))

    def _subject(self, call: Call) -> dict[str, str | int]:
        return {self._field: self._spelled(str(call.args[self._field]))}

    def operations(self, prefix: str, fields: tuple[Field, ...], *, creates: bool = True) -> list[Operation]:
        """list, read, write and delete, named `prefix`.list and so on."""
        name = Field(self._field, record=Record.CLEAR)
        state = Effect.STATE
        return [
            Operation(f"{prefix}.list", Capability.LIST, self.listing),
            Operation(f"{prefix}.read", Capability.READ, self.read, fields=(name,)),
            Operation(
                f"{prefix}.write",
                Capability.UPDATE,
                self.write,
                effect=state,
                exists=self.exists if creates else None,
                fields=(name, *fields),
            ),
            Operation(f"{prefix}.delete", Capability.DELETE, self.delete, effect=state, fields=(name,)),
        ]
