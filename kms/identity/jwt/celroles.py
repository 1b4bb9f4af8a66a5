"""Roles of jwt that are programs: kept, checked and shown."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from kms import cel
from kms.cel import Sandbox
from kms.durations import seconds
from kms.errors import invalid, not_found
from kms.identity.jwt.store import CEL_ROLES, CelRole
from kms.ids import check_name
from kms.operation import Call, Change, Field, MountRef, Record, Result, Type
from kms.tables import Reader, Row, Store, Transaction

DIALECT: Final = "jwt"
_LEEWAYS: Final = ("clock_skew_leeway", "expiration_leeway", "not_before_leeway")
MAX_LEEWAY: Final = 365 * 86_400
MAX_MESSAGE: Final = 4096

CEL_ROLE_FIELDS: Final = (
    Field("cel_program", Type.MAP),
    Field("message", record=Record.CLEAR),
    Field("bound_audiences", Type.STRINGS, record=Record.CLEAR),
    *(Field(name, Type.ANY, record=Record.CLEAR) for name in _LEEWAYS),
)


class CelRoles:
    """Handlers. One per process, safe to use from several threads."""

    def __init__(self, store: Store, programs: Sandbox) -> None:
        self._store = store
        self.programs = programs

    def exists(self, call: Call) -> bool:
        """Whether the role is there: creating and updating are different rights."""
        return self.role(self._store.reader(), call.mount, call.args["name"]) is not None

    def read(self, call: Call) -> Result:
        row = self.role(self._store.reader(), call.mount, call.args["name"])
        if row is None:
            raise not_found()
        return Result(data=_shown(call, row.value))

    def listing(self, call: Call) -> Result:
        prefix = f"{call.mount.id}/"
        names = [key.removeprefix(prefix) for key in self._store.reader().keys(CEL_ROLES, prefix)]
        if not names:
            raise not_found()
        return Result(data={"keys": names})

    def write(self, call: Call) -> Change:
        """The role, whole."""
        return self._stored(call, _changed(call, CelRole(program=cel.parse(call.args.get("cel_program")))))

    def patch(self, call: Call) -> Change:
        """Only what is given."""
        row = self.role(self._store.reader(), call.mount, call.args["name"])
        if row is None:
            raise invalid("Unable to fetch cel role entry to patch")
        before = row.value
        if call.args.get("cel_program") is not None:
            before = replace(before, program=cel.patched(before.program, call.args["cel_program"]))
        return self._stored(call, _changed(call, before))

    def _stored(self, call: Call, role: CelRole) -> Change:
        key = _key(call.mount, call.args["name"])
        self.programs.check(DIALECT, role.program)

        def write(tx: Transaction) -> Result:
            row = tx.get(CEL_ROLES, key)
            if row is None:
                tx.insert(CEL_ROLES, key, role)
            else:
                tx.replace(CEL_ROLES, row, role)
            return Result(data=_shown(call, role), subject={"role": call.args["name"]})

        return Change(write)

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            row = self.role(tx, call.mount, call.args["name"])
            if row is not None:
                tx.delete(CEL_ROLES, row)
            return Result(subject={"role": call.args["name"]})

        return Change(write)

    def role(self, reader: Reader, mount: MountRef, name: str) -> Row[CelRole] | None:
        """The role, or None."""
        return reader.get(CEL_ROLES, _key(mount, name))


def _changed(call: Call, before: CelRole) -> CelRole:
    read: dict[str, Any] = {}
    for name in _LEEWAYS:
        if name in call.given:
            read[name] = _leeway(name, call.args[name])
    if "bound_audiences" in call.given:
        read["bound_audiences"] = tuple(call.args["bound_audiences"])
    if "message" in call.given:
        read["message"] = call.args["message"]
        if len(read["message"]) > MAX_MESSAGE:
            raise invalid(f"message has at most {MAX_MESSAGE} characters")
    return replace(before, **read)


def _leeway(name: str, value: object) -> int:
    """Seconds; negative for none."""
    try:
        found = seconds(str(value))
    except ValueError as error:
        raise invalid(
            f'Field validation failed: error converting input for field "{name}": {error}'
        ) from None
    if not -1 <= found <= MAX_LEEWAY:
        raise invalid(f"{name}: -1 for none, or at most {MAX_LEEWAY} seconds")
    return found


def _shown(call: Call, role: CelRole) -> dict[str, Any]:
    return {
        "name": call.args["name"].lower(),
        "cel_program": cel.shown(role.program),
        "message": role.message,
        "bound_audiences": list(role.bound_audiences),
        **{name: getattr(role, name) for name in _LEEWAYS},
    }


def _key(mount: MountRef, name: str) -> str:
    return f"{mount.id}/{check_name(name, 'role name').lower()}"
