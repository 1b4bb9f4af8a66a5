"""sys/mounts and its kin: enable, disable, tune and list engines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from kms.durations import seconds
from kms.errors import ErrorKind, KmsError, invalid
from kms.operation import (
    Call,
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
from kms.system.mounts import MOUNTS, Mount, MountTable, canonical_path, new_mount
from kms.tables import Row, Transaction

SYSTEM_LEASE_TTL = 2_764_800  # 768 h, the Vault default
_TUNABLE = ("default_lease_ttl", "max_lease_ttl", "description", "listing_visibility", "options")


def describe(mount: Mount) -> dict[str, Any]:
    """A mount as sys/mounts shows it."""
    return {
        "accessor": mount.accessor,
        "config": {
            "default_lease_ttl": mount.default_lease_ttl,
            "max_lease_ttl": mount.max_lease_ttl,
            "force_no_cache": False,
            **({"listing_visibility": mount.listing_visibility} if mount.listing_visibility else {}),
        },
        "deprecation_status": "supported",
        "description": mount.description,
        "external_entropy_access": False,
        "local": False,
        "options": mount.options,
        "plugin_version": "",
        "running_plugin_version": "v1.0.0+builtin",
        "running_sha256": "",
        "seal_wrap": False,
        "type": mount.type,
        "uuid": mount.uuid,
    }


def describe_auth(mount: Mount) -> dict[str, Any]:
    """An auth mount as sys/auth shows it."""
    shown = describe(mount)
    shown["config"]["token_type"] = "default-service"  # noqa: S105  (a kind of token)
    return shown


def describe_tuning(mount: Mount) -> dict[str, Any]:
    """A mount as sys/mounts/:path/tune shows it."""
    tuning: dict[str, Any] = {
        "default_lease_ttl": mount.default_lease_ttl or SYSTEM_LEASE_TTL,
        "description": mount.description,
        "force_no_cache": False,
        "max_lease_ttl": mount.max_lease_ttl or SYSTEM_LEASE_TTL,
    }
    if mount.listing_visibility:
        tuning["listing_visibility"] = mount.listing_visibility
    if mount.options is not None:
        tuning["options"] = mount.options
    return tuning


class MountHandlers:
    """Handlers over the mount table.

    Args:
        engines: types of secrets engines that can be mounted by a caller.
        methods: types of auth methods that can be.
        visible: whether the principal may see a mount at all (any right below it).
        audit_devices: what sys/audit lists.
        end: puts all that was issued below a mount out of force.
        retire: engine type -> frees what a removed mount held, in the same transaction; returns how
            many things that were. Material is destroyed after its waiting time, as for a delete.
    """

    def __init__(
        self,
        mounts: MountTable,
        engines: Collection[str],
        methods: Collection[str],
        visible: Callable[[Principal, str], bool],
        audit_devices: Callable[[], dict[str, Any]],
        end: Callable[[Transaction, str], None],
        retire: Mapping[str, Callable[[Transaction, str], int]],
    ) -> None:
        self._mounts = mounts
        self._engines = engines
        self._methods = methods
        self._visible = visible
        self._audit_devices = audit_devices
        self._end = end
        self._retire = retire

    def _secret_mounts(self) -> dict[str, Mount]:
        return {path: row.value for path, row in self._mounts.rows().items() if not path.startswith("auth/")}

    def _auth_mounts(self) -> dict[str, Mount]:
        return {
            path.removeprefix("auth/"): row.value
            for path, row in self._mounts.rows().items()
            if path.startswith("auth/")
        }

    def list_mounts(self, _call: Call) -> Result:
        return Result({path: describe(mount) for path, mount in self._secret_mounts().items()})

    def list_auth(self, _call: Call) -> Result:
        return Result({path: describe_auth(mount) for path, mount in self._auth_mounts().items()})

    def list_audit(self, _call: Call) -> Result:
        return Result(self._audit_devices())

    def internal_mounts(self, call: Call) -> Result:
        seen = self._visible
        return Result(
            {
                "secret": {
                    p: describe(m) for p, m in self._secret_mounts().items() if seen(call.principal, p)
                },
                "auth": {
                    p: describe_auth(m)
                    for p, m in self._auth_mounts().items()
                    if seen(call.principal, f"auth/{p}")
                },
            }
        )

    def internal_mount(self, call: Call) -> Result:
        found = self._mounts.resolve(call.args["path"].strip("/") + "/")
        if found is None or not self._visible(call.principal, found[0].path):
            # Which of the two it is, is nobody's business who may not see the mount.
            detail = "preflight capability check returned 403, please ensure client's policies grant access"
            raise KmsError(ErrorKind.DENIED, f'{detail} to path "{call.args["path"]}"')
        ref, _ = found
        return Result({"path": ref.path, **describe(self._mounts.rows()[ref.path].value)})

    def read(self, call: Call) -> Result:
        return Result(describe(self._at(canonical_path(call.args["path"])).value))

    def read_auth(self, call: Call) -> Result:
        return Result(describe_auth(self._at(_auth_path(call)).value))

    def tuning(self, call: Call) -> Result:
        return Result(describe_tuning(self._at(canonical_path(call.args["path"])).value))

    def auth_tuning(self, call: Call) -> Result:
        return Result(describe_tuning(self._at(_auth_path(call)).value))

    def _at(self, path: str) -> Row[Mount]:
        row = self._mounts.rows().get(path)
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
        _check_token_type(config.get("token_type"))
        mount = msgspec.structs.replace(
            new_mount(f"{prefix}{kind}", call.args["description"] or ""),
            type=kind,
            default_lease_ttl=_ttl(config, "default_lease_ttl"),
            max_lease_ttl=_ttl(config, "max_lease_ttl"),
            options=call.args["options"] or None,
        )

        def write(tx: Transaction) -> Result:
            self._mounts.enable(tx, path, mount)
            return Result(subject={"mount": path, "type": kind, "accessor": mount.accessor})

        return Change(write)

    def disable(self, call: Call) -> Change:
        return self._disable(canonical_path(call.args["path"]))

    def disable_auth(self, call: Call) -> Change:
        return self._disable(_auth_path(call))

    def _disable(self, path: str) -> Change:
        def write(tx: Transaction) -> Result:
            row = tx.get(MOUNTS, path)
            if row is None:
                return Result(subject={"mount": path, "removed": 0})
            if row.value.builtin:
                raise invalid(
                    "token credential backend cannot be disabled"
                    if path.startswith("auth/")
                    else f"cannot unmount '{path}'"
                )
            retire = self._retire.get(row.value.type)
            held = retire(tx, row.value.id) if retire is not None else 0
            self._end(tx, path)
            tx.delete(MOUNTS, row)
            return Result(subject={"mount": path, "removed": 1, "held": held})

        return Change(write)

    def tune(self, call: Call) -> Change:
        return self._tune(call, canonical_path(call.args["path"]))

    def tune_auth(self, call: Call) -> Change:
        _check_token_type(call.args.get("token_type"))
        return self._tune(call, _auth_path(call))

    def _tune(self, call: Call, path: str) -> Change:
        def write(tx: Transaction) -> Result:
            row = tx.get(MOUNTS, path)
            if row is None:
                raise _no_mount(path)
            given = {name: call.args[name] for name in _TUNABLE if name in call.given}
            tx.replace(MOUNTS, row, msgspec.structs.replace(row.value, **given))
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
        tuning = (
            path,
            Field("default_lease_ttl", Type.SECONDS, record=Record.CLEAR),
            Field("max_lease_ttl", Type.SECONDS, record=Record.CLEAR),
            Field("description"),
            Field("listing_visibility"),
            Field("options", Type.MAP),
        )
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
                fields=(*tuning, Field("token_type", record=Record.CLEAR)),
                sudo=True,
            ),
            Operation("sys.audit.list", read, self.list_audit, sudo=True),
            Operation("sys.internal.mounts", read, self.internal_mounts, any_token=True),
            Operation("sys.internal.mount", read, self.internal_mount, fields=(path,), any_token=True),
        ]


def _auth_path(call: Call) -> str:
    return "auth/" + canonical_path(call.args["path"])


def _no_mount(path: str) -> KmsError:
    if path.startswith("auth/"):
        return invalid(f"No auth engine at {path.removeprefix('auth/')}")
    return invalid(f"no secret engine mount at {path}")


def _check_token_type(kind: object) -> None:
    if kind not in {None, "", "default-service", "service"}:
        raise invalid("token_type must be 'default-service' or 'service': batch tokens are not available")


def _ttl(config: dict[str, Any], name: str) -> int:
    value = config.get(name) or 0
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise invalid(f'config.{name} must be a duration, such as 3600 or "1h"')
    try:
        ttl = seconds(str(value))
    except ValueError as error:
        raise invalid(f"config.{name}: {error}") from None
    if ttl < 0:
        raise invalid(f"config.{name} must not be negative")
    return ttl
