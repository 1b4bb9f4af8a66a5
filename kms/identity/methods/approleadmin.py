"""Managing AppRoles: roles, their role IDs and single fields. Secret IDs are in approlesecrets."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kms.errors import invalid, not_found
from kms.identity.methods import approlefields as fields
from kms.identity.methods.approle import AppRoles, role_id_key, role_key
from kms.identity.methods.store import APPROLES, ROLE_IDS, AppRole, RoleId
from kms.ids import new_id, new_uuid
from kms.operation import Call, Change, Result
from kms.tables import Row, Transaction

_OLD_CIDRS = 'The "bound_cidr_list" field is deprecated and will be removed. Please use "secret_id_bound_cidrs" instead.'
MAX_ROLE_ID = 4096


class RoleAdmin:
    """Handlers over the roles of a mount."""

    def __init__(self, roles: AppRoles) -> None:
        self._roles = roles

    def exists(self, call: Call) -> bool:
        """Whether the role is there: creating and updating are different rights."""
        return self._roles.role(self._roles.store.reader(), call.mount, call.args["role_name"]) is not None

    def read(self, call: Call) -> Result:
        return Result(data=fields.shown(self._row(call).value))

    def listing(self, call: Call) -> Result:
        prefix = f"{call.mount.id}/"
        names = [key.removeprefix(prefix) for key in self._roles.store.reader().keys(APPROLES, prefix)]
        if not names:
            raise not_found()
        return Result(data={"keys": names})

    def write(self, call: Call) -> Change:
        given = _given(call, "role_name", "role_id")

        def write(tx: Transaction) -> Result:
            row = tx.get(APPROLES, role_key(call.mount, call.args["role_name"]))
            wanted = str(call.args.get("role_id") or "")
            if row is None:
                role = AppRole(uid=new_id(), role_id=wanted or new_uuid())
                role = fields.check(replace(role, **fields.changes(given, role)))
                tx.insert(APPROLES, role_key(call.mount, call.args["role_name"]), role)
                self._name_role(tx, call, role.role_id)
                return Result(subject={"role": call.args["role_name"]})
            role = fields.check(replace(row.value, **fields.changes(given, row.value)))
            if wanted and wanted != role.role_id:
                role = self._renamed(tx, call, role, wanted)
            tx.replace(APPROLES, row, role)
            return Result(subject={"role": call.args["role_name"]})

        return Change(write)

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            row = tx.get(APPROLES, role_key(call.mount, call.args["role_name"]))
            if row is not None:
                self._roles.drop_role(tx, row, call.mount.id)
            return Result(subject={"role": call.args["role_name"]})

        return Change(write)

    # -- single fields -----------------------------------------------------------------------------------

    def read_one(self, call: Call) -> Result:
        path, name = _one(call)
        data = fields.shown(self._row(call).value)
        if path == "bound-cidr-list":
            return Result(data={"bound_cidr_list": data[name]}, warnings=(_OLD_CIDRS,))
        return Result(data={name: data[name]})

    def write_one(self, call: Call) -> Change:
        _, name = _one(call)
        given = {
            fields.OLD.get(key, key): value
            for key, value in _given(call, "role_name", "field").items()
            if fields.OLD.get(key, key) == name
        }
        if not given:
            raise invalid(f"missing {name}")
        return self._change(call, given)

    def reset_one(self, call: Call) -> Change:
        _, name = _one(call)
        defaults = AppRole(uid="", role_id="")
        value = getattr(defaults, name)
        return self._change(call, {name: list(value) if isinstance(value, tuple) else value})

    def _change(self, call: Call, given: dict[str, Any]) -> Change:
        def write(tx: Transaction) -> Result:
            row = tx.get(APPROLES, role_key(call.mount, call.args["role_name"]))
            if row is None:
                raise not_found()
            tx.replace(APPROLES, row, fields.check(replace(row.value, **fields.changes(given, row.value))))
            return Result(subject={"role": call.args["role_name"]})

        return Change(write)

    # -- the role ID -------------------------------------------------------------------------------------

    def read_role_id(self, call: Call) -> Result:
        return Result(data={"role_id": self._row(call).value.role_id})

    def write_role_id(self, call: Call) -> Change:
        wanted = str(call.args.get("role_id") or "")
        if not wanted:
            raise invalid("missing role_id")

        def write(tx: Transaction) -> Result:
            row = tx.get(APPROLES, role_key(call.mount, call.args["role_name"]))
            if row is None:
                raise not_found()
            tx.replace(APPROLES, row, self._renamed(tx, call, row.value, wanted))
            return Result(subject={"role": call.args["role_name"]})

        return Change(write)

    def _renamed(self, tx: Transaction, call: Call, role: AppRole, wanted: str) -> AppRole:
        if wanted == role.role_id:
            return role
        held = tx.get(ROLE_IDS, role_id_key(call.mount, role.role_id))
        if held is not None:
            tx.delete(ROLE_IDS, held)
        self._name_role(tx, call, wanted)
        return replace(role, role_id=wanted)

    def _name_role(self, tx: Transaction, call: Call, role_id: str) -> None:
        if len(role_id) > MAX_ROLE_ID:
            raise invalid(f"a role ID has at most {MAX_ROLE_ID} characters")
        key = role_id_key(call.mount, role_id)
        if tx.get(ROLE_IDS, key) is not None:
            raise invalid("another role has this role ID already")
        tx.insert(ROLE_IDS, key, RoleId(str(call.args["role_name"]).lower()))

    def _row(self, call: Call) -> Row[AppRole]:
        row = self._roles.role(self._roles.store.reader(), call.mount, call.args["role_name"])
        if row is None:
            raise not_found()
        return row


def _given(call: Call, *without: str) -> dict[str, Any]:
    return {name: call.args[name] for name in call.given if name not in without}


def _one(call: Call) -> tuple[str, str]:
    path = str(call.args["field"])
    if path not in fields.SINGLE:
        raise not_found("unsupported path")
    return path, fields.SINGLE[path]
