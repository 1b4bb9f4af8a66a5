"""Roles that are programs, as an administrator keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kms import cel
from kms.cel import Program, Sandbox
from kms.errors import invalid, not_found
from kms.ids import check_name
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.listing import listed, page
from pki.model import CelRole
from pki.store import CEL_ROLES, put

DIALECT = "pki"


@dataclass(frozen=True)
class CelRoles:
    """One per process."""

    store: Store
    programs: Sandbox

    def exists(self, call: Call) -> bool:
        """Tells create from update."""
        return self.store.reader().get(CEL_ROLES, _key(call)) is not None

    def read(self, call: Call) -> Result:
        """Name and program."""
        row = self.store.reader().get(CEL_ROLES, _key(call))
        if row is None:
            raise not_found()
        return Result(data=_data(call, row.value.program))

    def write(self, call: Call) -> Change:
        """Replace a role by one whose program was checked."""
        check_name(str(call.args["name"]), "role name")
        return self._store(call, cel.parse(call.args.get("cel_program")))

    def patch(self, call: Call) -> Change:
        """Change the given members of the program."""
        row = self.store.reader().get(CEL_ROLES, _key(call))
        if row is None:
            raise invalid("Unable to fetch cel role entry to patch")
        if call.args.get("cel_program") is None:
            return self._store(call, row.value.program)
        return self._store(call, cel.patched(row.value.program, call.args["cel_program"]))

    def _store(self, call: Call, program: Program) -> Change:
        self.programs.check(DIALECT, program)

        def write(tx: Transaction) -> Result:
            put(tx, CEL_ROLES, _key(call), CelRole(program))
            return Result(data=_data(call, program))

        return Change(write)

    def delete(self, call: Call) -> Change:
        """Idempotent, as in the peer."""

        def write(tx: Transaction) -> Result:
            row = tx.get(CEL_ROLES, _key(call))
            if row is not None:
                tx.delete(CEL_ROLES, row)
            return Result()

        return Change(write)

    def list(self, call: Call) -> Result:
        """Names."""
        return listed(page(self.store.reader(), CEL_ROLES, f"{call.mount.id}/", call.args))

    def known(self, call: Call) -> Program:
        """The program of the role that a request names. Raises KmsError(INVALID) as the peer does."""
        row = self.store.reader().get(CEL_ROLES, f"{call.mount.id}/{call.args['role']}")
        if row is None:
            raise invalid("CEL role not found")
        return row.value.program


def _key(call: Call) -> str:
    return f"{call.mount.id}/{call.args['name']}"


def _data(call: Call, program: Program) -> dict[str, Any]:
    return {"name": call.args["name"], "cel_program": cel.shown(program)}
