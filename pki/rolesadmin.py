"""Roles as an administrator keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from kms.errors import KmsError, invalid, not_found
from kms.ids import check_name
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.authority import Authorities
from pki.listing import listed, page
from pki.model import Role
from pki.profiles.named import check_role
from pki.rolewrite import make_role
from pki.store import ROLES, put


@dataclass(frozen=True)
class RolesAdmin:
    """One per process."""

    store: Store
    authorities: Authorities

    def exists(self, call: Call) -> bool:
        """Tells create from update."""
        return self.store.reader().get(ROLES, self._role_key(call)) is not None

    def read(self, call: Call) -> Result:
        """All fields of a role."""
        row = self.store.reader().get(ROLES, self._role_key(call))
        if row is None:
            raise not_found()
        return Result(data=role_data(row.value))

    def write(self, call: Call) -> Change:
        """Replace a role; what is not given falls back to its default."""
        check_name(str(call.args["name"]), "role name")
        return self._store_role(call, make_role(call.args))

    def patch(self, call: Call) -> Change:
        """Change only the given fields."""
        row = self.store.reader().get(ROLES, self._role_key(call))
        if row is None:
            raise invalid(f"unable to fetch role entry to patch: {call.args['name']}")
        return self._store_role(call, make_role(call.args, row.value, call.given))

    def _store_role(self, call: Call, role: Role) -> Change:
        check_role(role, call.args, call.given)
        warnings = self._role_warnings(call, role)

        def write(tx: Transaction) -> Result:
            put(tx, ROLES, self._role_key(call), role)
            return Result(data=role_data(role), warnings=warnings)

        return Change(write)

    def _role_warnings(self, call: Call, role: Role) -> tuple[str, ...]:
        try:
            self.authorities.issuer(call.mount.id, role.issuer_ref)
        except KmsError:
            if role.issuer_ref == "default":
                return (
                    (
                        "Issuing Certificate was set to default, but no default issuing certificate"
                        " (configurable at /config/issuers) is currently set"
                    ),
                )
            return (
                (
                    f"Issuing Certificate was set to {role.issuer_ref} but no issuing certificate currently"
                    " has that name"
                ),
            )
        return ()

    def delete(self, call: Call) -> Change:
        """Idempotent, as in the peer."""

        def write(tx: Transaction) -> Result:
            row = tx.get(ROLES, self._role_key(call))
            if row is not None:
                tx.delete(ROLES, row)
            return Result()

        return Change(write)

    def list(self, call: Call) -> Result:
        """Names."""
        return listed(page(self.store.reader(), ROLES, f"{call.mount.id}/", call.args))

    def _role_key(self, call: Call) -> str:
        return f"{call.mount.id}/{call.args['name']}"


def role_data(role: Role) -> dict[str, Any]:
    """A role as the API shows it."""
    values = msgspec.structs.asdict(role)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
