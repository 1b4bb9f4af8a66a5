"""sys/namespaces: the API, as the peer has it. A name is one level; deeper ones are named from inside."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from msgspec.structs import replace

from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.ids import base62
from kms.namespaces import NAMESPACES, Namespace, NamespaceTable
from kms.operation import Call, Capability, Change, Effect, Field, Operation, Principal, Record, Result, Type
from kms.system.namespaces.births import born, checked_name, metadata
from kms.tables import Row, Transaction

_KEY_LENGTH: Final = 24
_NONE: Final = "requested namespace does not exist"


class NamespaceHandlers:
    """Handlers. One per process, safe to use from several threads.

    Args:
        end: puts all that was issued below a path out of force, in the same transaction.
        reaches: whether a principal may do anything at or below a full path.
        has_sudo: whether the principal's rule for a full path carries sudo.
        may_list: whether the principal may list a full path.
    """

    def __init__(
        self,
        namespaces: NamespaceTable,
        end: Callable[[Transaction, str], None],
        reaches: Callable[[Principal, str], bool],
        has_sudo: Callable[[Principal, str], bool],
        may_list: Callable[[Principal, str], bool],
    ) -> None:
        self._namespaces = namespaces
        self._end = end
        self._reaches = reaches
        self._has_sudo = has_sudo
        self._may_list = may_list

    # -- looking --------------------------------------------------------------------------------------

    def _children(self, call: Call) -> dict[str, Row[Namespace]]:
        """Those directly below the caller's, by their names."""
        above = call.namespace.path
        return {
            path[len(above) :]: row
            for path, row in sorted(self._namespaces.rows().items())
            if path.startswith(above) and path[len(above) :].count("/") == 1
        }

    def listing(self, call: Call) -> Result:
        found = self._children(call)
        if not found:
            raise not_found()
        shown = {name: _shown(row) for name, row in found.items()}
        return Result({"keys": list(found), "key_info": shown}, items=len(found))

    def scan(self, call: Call) -> Result:
        """All below, at any depth, as far as the caller could come by listing one after the other."""
        if not call.args.get("scan"):
            raise KmsError(ErrorKind.UNSUPPORTED, "unsupported operation")
        above, seen = call.namespace.path, {call.namespace.path}
        found: dict[str, Row[Namespace]] = {}
        for path, row in sorted(self._namespaces.rows().items()):  # those above come before those below
            parent = path[: path[:-1].rfind("/") + 1]
            if parent not in seen or path == above:
                continue
            if parent == above or self._may_list(call.principal, f"{parent}sys/namespaces"):
                found[path[len(above) :]] = row
                seen.add(path)
        if not found:
            raise not_found()
        shown = {name: _shown(row) for name, row in found.items()}
        return Result({"keys": list(found), "key_info": shown}, items=len(found))

    def reachable(self, call: Call) -> Result:
        """The names of those in which the caller's policies say anything."""
        keys = [name for name, row in self._children(call).items() if self._reaches(call.principal, row.key)]
        return Result({"keys": keys} if keys else {})

    def read(self, call: Call) -> Result:
        row = self._namespaces.rows().get(_path(call))
        if row is None:
            raise not_found()
        return Result(_shown(row))

    # -- changing -------------------------------------------------------------------------------------

    def write(self, call: Call) -> Change:
        """Make one, or replace the metadata of one that is there."""
        if call.args.get("seal") or call.args.get("seals"):
            raise invalid("all namespaces are sealed by this server's HSM; leave `seal` out")
        name, kept = checked_name(call.args["path"]), metadata(call.args.get("custom_metadata"))

        def write(tx: Transaction) -> Result:
            held = tx.get(NAMESPACES, _path(call))
            if held is None:
                row = born(tx, call.namespace, name, kept)
            elif held.value.tainted:
                raise invalid("the namespace of this name is being deleted; try again when that has ended")
            else:
                row = tx.replace(NAMESPACES, held, replace(held.value, custom_metadata=kept))
            return _changed(row)

        return Change(write)

    def patch(self, call: Call) -> Change:
        """Merge into the metadata; null removes."""
        given: dict[str, Any] = call.args.get("custom_metadata") or {}

        def write(tx: Transaction) -> Result:
            row = tx.get(NAMESPACES, _path(call))
            if row is None or row.value.tainted:
                raise invalid("namespace not found")
            merged = {**row.value.custom_metadata, **given}
            kept = metadata({name: value for name, value in merged.items() if value is not None})
            return _changed(tx.replace(NAMESPACES, row, replace(row.value, custom_metadata=kept)))

        return Change(write)

    def delete(self, call: Call) -> Change:
        """From this commit on nothing of it answers; what it holds is removed in the background (`removal`)."""

        def write(tx: Transaction) -> Result:
            path = _path(call)
            row = tx.get(NAMESPACES, path)
            if row is None:
                return Result(warnings=(_NONE,), subject={"namespace": path, "removed": 0})
            if len(tx.keys(NAMESPACES, path, limit=2)) > 1:
                raise invalid("unable to delete namespace containing child namespaces")
            if not row.value.tainted:
                tx.replace(NAMESPACES, row, replace(row.value, tainted=True))
                self._end(tx, path)
            return Result(
                {"status": "in-progress"}, subject={"namespace": path, "namespace_id": row.value.id}
            )

        return Change(write)

    def seal(self, _call: Call) -> Result:
        """The peer's own seal per namespace."""
        raise invalid("namespace is not sealable: all namespaces are sealed by this server's HSM")

    def delete_sealed(self, call: Call) -> Result:
        """Deleting without unsealing; here a namespace is never sealed by itself."""
        if _path(call) not in self._namespaces.rows():
            return Result(warnings=(_NONE,))
        raise invalid("namespace is not sealed")

    # -- the lock -------------------------------------------------------------------------------------

    def _named(self, tx: Transaction, call: Call) -> Row[Namespace]:
        """The namespace that a lock is about: the caller's own or one below it, at any depth."""
        below = str(call.args.get("path") or "").strip("/")
        path = call.namespace.path + (f"{below}/" if below else "")
        if not path:
            raise invalid("root namespace cannot be locked/unlocked")
        row = tx.get(NAMESPACES, path)
        if row is None or row.value.tainted:
            raise invalid(_NONE)
        return row

    def lock(self, call: Call) -> Change:
        """Nothing in it or below it answers until it is unlocked."""

        def write(tx: Transaction) -> Result:
            row = self._named(tx, call)
            if row.value.lock or self._locked_above(tx, row.key) is not None:
                raise invalid(f'cannot lock namespace "{row.key}": is already locked')
            key = base62(_KEY_LENGTH)
            tx.replace(NAMESPACES, row, replace(row.value, lock=_digest(key)))
            return Result({"unlock_key": key}, subject={"namespace": row.key})

        return Change(write)

    @staticmethod
    def _locked_above(tx: Transaction, path: str) -> str | None:
        ends = (at + 1 for at, sign in enumerate(path[:-1]) if sign == "/")
        rows = (tx.get(NAMESPACES, path[:end]) for end in ends)
        return next((row.key for row in rows if row is not None and row.value.lock), None)

    def unlock(self, call: Call) -> Change:
        """With the key that the lock gave, or with sudo."""
        given = str(call.args.get("unlock_key") or "")
        sudo = not given and self._has_sudo(call.principal, call.path)

        def write(tx: Transaction) -> Result:
            row = self._named(tx, call)
            if not row.value.lock:
                raise invalid(f'namespace "{row.key}" is not locked')
            above = self._locked_above(tx, row.key)
            if above is not None:
                raise invalid(f'cannot unlock "{row.key}" with namespace "{above}" being locked')
            if not given and not sudo:
                raise invalid("an unlock key is needed, or sudo on this path")
            if given and not hmac.compare_digest(_digest(given), row.value.lock):
                raise invalid("incorrect unlock key")
            tx.replace(NAMESPACES, row, replace(row.value, lock=""))
            told = () if given else ("Namespace unlocked using sudo capabilities",)
            return Result(warnings=told, subject={"namespace": row.key})

        return Change(write)

    def table(self) -> list[Operation]:
        """The operations."""
        state, update = Effect.STATE, Capability.UPDATE
        path = Field("path", record=Record.CLEAR)
        kept = Field("custom_metadata", Type.MAP)
        one = Field("path", default="", record=Record.CLEAR)
        return [
            Operation("sys.namespaces.list", Capability.LIST, self.listing),
            Operation("sys.namespaces.scan", Capability.LIST, self.scan, fields=(Field("scan", Type.BOOL),)),
            Operation("sys.namespaces.read", Capability.READ, self.read, fields=(path,)),
            Operation(
                "sys.namespaces.write",
                update,
                self.write,
                effect=state,
                fields=(path, kept, *(Field(name, Type.ANY) for name in ("seal", "seals"))),
            ),
            Operation(
                "sys.namespaces.patch", Capability.PATCH, self.patch, effect=state, fields=(path, kept)
            ),
            Operation("sys.namespaces.delete", Capability.DELETE, self.delete, effect=state, fields=(path,)),
            Operation("sys.namespaces.delete_sealed", Capability.DELETE, self.delete_sealed, fields=(path,)),
            Operation("sys.namespaces.seal", update, self.seal, fields=(path,)),
            Operation("sys.namespaces.seal_status", Capability.READ, self.seal, fields=(path,)),
            Operation("sys.namespaces.lock", update, self.lock, effect=state, fields=(one,)),
            Operation(
                "sys.namespaces.unlock", update, self.unlock, effect=state, fields=(one, Field("unlock_key"))
            ),
            Operation("sys.internal.namespaces", Capability.READ, self.reachable, any_token=True),
        ]


def _path(call: Call) -> str:
    return f"{call.namespace.path}{checked_name(call.args['path'])}/"


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def _changed(row: Row[Namespace]) -> Result:
    return Result(_shown(row), subject={"namespace": row.key, "namespace_id": row.value.id})


def _shown(row: Row[Namespace]) -> dict[str, Any]:
    return {
        "custom_metadata": row.value.custom_metadata,
        "id": row.value.id,
        "locked": bool(row.value.lock),
        "path": row.key,
        "tainted": row.value.tainted,
        "uuid": row.value.uuid,
    }
