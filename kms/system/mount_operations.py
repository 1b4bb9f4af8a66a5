"""sys/mounts and its kin: enable, disable, tune and list engines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from kms.errors import ErrorKind, KmsError, invalid
from kms.operation import (
    Call,
    Caller,
    Capability,
    Change,
    Effect,
    Field,
    Operation,
    Principal,
    Record,
    Result,
    Type,
)
from kms.system import lockout
from kms.system.mounts import MOUNTS, Mount, MountTable, canonical_path, mount_of, new_mount
from kms.system.tuning import FIELDS, SYSTEM_LEASE_TTL, first_settings, lists_of, tuned, tunings_of
from kms.tables import Row, Transaction

_TOKEN_TYPES = frozenset({"default-service", "service", "default-batch", "batch"})


def describe(mount: Mount) -> dict[str, Any]:
    """A mount as sys/mounts shows it."""
    return {
        "accessor": mount.accessor,
        "config": {
            "default_lease_ttl": mount.default_lease_ttl,
            "max_lease_ttl": mount.max_lease_ttl,
            "force_no_cache": False,
            **lists_of(mount),
        },
        "deprecation_status": "supported",
        "description": mount.description,
        "external_entropy_access": False,
        "local": mount.local,
        "options": mount.options,
        "plugin_version": "",
        "running_plugin_version": "v1.0.0+builtin",
        "running_sha256": "",
        "seal_wrap": mount.seal_wrap,
        "type": f"ns_{mount.type}" if mount.builtin and mount.namespace else mount.type,
        "uuid": mount.uuid,
    }


def describe_auth(mount: Mount) -> dict[str, Any]:
    """An auth mount as sys/auth shows it."""
    shown = describe(mount)
    shown["config"]["token_type"] = mount.token_type or "default-service"
    if mount.lockout is not None:
        shown["config"]["user_lockout_config"] = lockout.shown(mount.lockout)
    return shown


def _describe_unseen(mount: Mount) -> dict[str, Any]:
    """What anybody may know of a mount that is listed for everybody."""
    return {"description": mount.description, "options": mount.options or {}, "type": mount.type}


def describe_tuning(mount: Mount) -> dict[str, Any]:
    """A mount as sys/mounts/:path/tune shows it."""
    tuning: dict[str, Any] = {
        "default_lease_ttl": mount.default_lease_ttl or SYSTEM_LEASE_TTL,
        "description": mount.description,
        "force_no_cache": False,
        "max_lease_ttl": mount.max_lease_ttl or SYSTEM_LEASE_TTL,
    }
    if mount.options:
        tuning["options"] = mount.options
    return tuning | tunings_of(mount)


def describe_auth_tuning(mount: Mount) -> dict[str, Any]:
    """An auth mount as sys/auth/:path/tune shows it."""
    return describe_tuning(mount) | {"token_type": mount.token_type or "default-service"}


class MountHandlers:
    """Handlers over the mount table.

    Args:
        engines: types of secrets engines that can be mounted by a caller.
        methods: types of auth methods that can be.
        authenticate: (token, address it came from) -> Principal.
        visible: whether the principal may see a mount at all (any right below it).
        end: puts all that was issued below a mount out of force.
        retire: engine type -> frees what a removed mount held, in the same transaction; returns how
            many things that were. Material is destroyed after its waiting time, as for a delete.
    """

    def __init__(
        self,
        mounts: MountTable,
        engines: Collection[str],
        methods: Collection[str],
        authenticate: Callable[[str, str], Principal],
        visible: Callable[[Principal, str], bool],
        end: Callable[[Transaction, str], None],
        retire: Mapping[str, Callable[[Transaction, str], int]],
    ) -> None:
        self._mounts = mounts
        self._engines = engines
        self._methods = methods
        self._authenticate = authenticate
        self._visible = visible
        self._end = end
        self._retire = retire

    def _secret_mounts(self, call: Call) -> dict[str, Mount]:
        return {
            path: row.value
            for path, row in self._mounts.within(call.namespace).items()
            if not path.startswith("auth/")
        }

    def _auth_mounts(self, call: Call) -> dict[str, Mount]:
        return {
            path.removeprefix("auth/"): row.value
            for path, row in self._mounts.within(call.namespace).items()
            if path.startswith("auth/")
        }

    def list_mounts(self, call: Call) -> Result:
        return Result({path: describe(mount) for path, mount in self._secret_mounts(call).items()})

    def list_auth(self, call: Call) -> Result:
        return Result({path: describe_auth(mount) for path, mount in self._auth_mounts(call).items()})

    def internal_mounts(self, call: Call) -> Result:
        known = bool(call.credential)
        if known:
            call.principal = self._authenticate(call.credential, call.peer)

        def shown(mounts: dict[str, Mount], prefix: str, as_known: Callable[[Mount], Any]) -> dict[str, Any]:
            return {
                path: as_known(mount) if known else _describe_unseen(mount)
                for path, mount in mounts.items()
                if mount.listing_visibility == "unauth"
                or (known and self._visible(call.principal, call.namespace.path + prefix + path))
            }

        return Result(
            {
                "secret": shown(self._secret_mounts(call), "", describe),
                "auth": shown(self._auth_mounts(call), "auth/", describe_auth),
            }
        )

    def internal_mount(self, call: Call) -> Result:
        call.principal = self._authenticate(call.credential, call.peer)
        found = self._mounts.resolve(call.namespace.path + call.args["path"].strip("/") + "/")
        if found is not None and found[0].namespace != call.namespace:
            found = None
        if found is None or not self._visible(call.principal, found[0].path):
            # Which of the two it is, is nobody's business who may not see the mount.
            detail = "preflight capability check returned 403, please ensure client's policies grant access"
            refusal = KmsError(ErrorKind.DENIED, f'{detail} to path "{call.args["path"].strip("/")}/"')
            refusal.for_caller = True
            raise refusal
        ref, _ = found
        shown = describe_auth if ref.place.startswith("auth/") else describe
        return Result(
            {"path": ref.path[len(call.namespace.path) :], **shown(self._mounts.rows()[ref.path].value)}
        )

    def read(self, call: Call) -> Result:
        return Result(describe(self._at(call, canonical_path(call.args["path"])).value))

    def read_auth(self, call: Call) -> Result:
        return Result(describe_auth(self._at(call, _auth_path(call)).value))

    def tuning(self, call: Call) -> Result:
        path = canonical_path(call.args["path"])
        if path.startswith("auth/"):
            return Result(describe_auth_tuning(self._tuned(call, path)))
        return Result(describe_tuning(self._tuned(call, path)))

    def auth_tuning(self, call: Call) -> Result:
        return Result(describe_auth_tuning(self._tuned(call, _auth_path(call))))

    def _tuned(self, call: Call, path: str) -> Mount:
        row = self._mounts.within(call.namespace).get(path)
        if row is None:
            raise invalid(f'cannot fetch sysview for path "{path}"')
        return row.value

    def _at(self, call: Call, path: str) -> Row[Mount]:
        row = self._mounts.within(call.namespace).get(path)
        if row is None:
            raise _no_mount(path)
        return row

    def enable(self, call: Call) -> Change:
        path = canonical_path(call.args["path"])
        if path.startswith("auth/"):
            raise invalid("a secrets engine cannot be mounted below auth/; choose another path")
        return self._enable(call, path, self._engines, "")

    def enable_auth(self, call: Call) -> Change:
        return self._enable(call, _auth_path(call), self._methods, "auth_")

    def _enable(self, call: Call, path: str, kinds: Collection[str], prefix: str) -> Change:
        kind = call.args["type"]
        if kind not in kinds:
            raise invalid(f"plugin not found in the catalog: {kind}")
        config = call.args["config"] or {}
        if prefix:
            _check_token_type(config.get("token_type"))
        mount = msgspec.structs.replace(
            new_mount(f"{prefix}{kind}", call.args["description"] or ""),
            type=kind,
            options=call.args["options"] or None,
            local=bool(call.args["local"]),
            seal_wrap=bool(call.args["seal_wrap"]),
            token_type=(config.get("token_type") or "") if prefix else "",
            namespace=call.namespace.id,
            namespace_path=call.namespace.path,
            **first_settings(config, "auth" if prefix else "mount"),
        )

        def write(tx: Transaction) -> Result:
            self._mounts.enable(tx, call.namespace.path + path, mount)
            return Result(subject={"mount": path, "type": kind, "accessor": mount.accessor})

        return Change(write)

    def disable(self, call: Call) -> Change:
        return self._disable(call, canonical_path(call.args["path"]))

    def disable_auth(self, call: Call) -> Change:
        return self._disable(call, _auth_path(call))

    def _disable(self, call: Call, path: str) -> Change:
        def write(tx: Transaction) -> Result:
            row = mount_of(tx, call.namespace, path)
            if row is None:
                return Result(subject={"mount": path, "removed": 0})
            if row.value.builtin:
                raise invalid(
                    "token credential backend cannot be disabled"
                    if path.startswith("auth/")
                    else f"cannot unmount '{path}'"
                )
            return Result(subject={"mount": path, "removed": 1, "held": self.remove(tx, row)})

        return Change(write)

    def remove(self, tx: Transaction, row: Row[Mount]) -> int:
        """Remove a mount with all that it holds; how many things that were."""
        retire = self._retire.get(row.value.type)
        held = retire(tx, row.value.id) if retire is not None else 0
        self._end(tx, row.key)
        tx.delete(MOUNTS, row)
        return held

    def tune(self, call: Call) -> Change:
        return self._tune(call, canonical_path(call.args["path"]))

    def tune_auth(self, call: Call) -> Change:
        return self._tune(call, _auth_path(call))

    def _tune(self, call: Call, path: str) -> Change:
        kind = call.args.get("token_type") or ""
        if kind and not path.startswith("auth/"):
            raise invalid("'token_type' can only be modified on auth mounts")
        if kind and path == "auth/token/":
            raise invalid("'token_type' cannot be set for 'token' or 'ns_token' auth mounts")
        _check_token_type(kind)

        def write(tx: Transaction) -> Result:
            row = mount_of(tx, call.namespace, path)
            if row is None:
                raise invalid(f'tune of path "{path}" failed: no mount entry found')
            mount = tuned(path, row.value, call.args, call.given)
            tx.replace(MOUNTS, row, msgspec.structs.replace(mount, token_type=kind or mount.token_type))
            return Result(subject={"mount": path})

        return Change(write)

    def table(self) -> list[Operation]:
        read, update, delete = Capability.READ, Capability.UPDATE, Capability.DELETE
        path = Field("path", record=Record.CLEAR)
        enabling = (
            path,
            Field("type", required=True, record=Record.CLEAR),
            Field("description"),
            Field("config", Type.MAP),
            Field("options", Type.MAP),
            Field("local", Type.BOOL),
            Field("seal_wrap", Type.BOOL),
        )
        tuning = (path, *FIELDS)
        state = Effect.STATE
        return [
            Operation("sys.mounts.list", read, self.list_mounts),
            Operation("sys.mounts.read", read, self.read, fields=(path,)),
            Operation("sys.mounts.enable", update, self.enable, effect=state, fields=enabling),
            Operation("sys.mounts.disable", delete, self.disable, effect=state, fields=(path,)),
            Operation("sys.mounts.tuning", read, self.tuning, fields=(path,)),
            Operation("sys.mounts.tune", update, self.tune, effect=state, fields=tuning),
            Operation("sys.auth.list", read, self.list_auth),
            Operation("sys.auth.read", read, self.read_auth, fields=(path,)),
            Operation("sys.auth.enable", update, self.enable_auth, effect=state, fields=enabling, sudo=True),
            Operation("sys.auth.disable", delete, self.disable_auth, effect=state, fields=(path,), sudo=True),
            Operation("sys.auth.tuning", read, self.auth_tuning, fields=(path,), sudo=True),
            Operation(
                "sys.auth.tune",
                update,
                self.tune_auth,
                effect=state,
                fields=tuning,
                sudo=True,
            ),
            # With a token one sees what its policies reach, without one what is listed for everybody.
            Operation("sys.internal.mounts", read, self.internal_mounts, caller=Caller.PROOF),
            Operation("sys.internal.mount", read, self.internal_mount, fields=(path,), caller=Caller.PROOF),
        ]


def _auth_path(call: Call) -> str:
    """Inside the namespace."""
    return "auth/" + canonical_path(call.args["path"])


def _no_mount(path: str) -> KmsError:
    if path.startswith("auth/"):
        return invalid(f"No auth engine at {path.removeprefix('auth/')}")
    return invalid(f"no secret engine mount at {path}")


def _check_token_type(kind: object) -> None:
    if kind and kind not in _TOKEN_TYPES:
        raise invalid("invalid value for 'token_type'")
