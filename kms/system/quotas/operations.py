"""sys/quotas/: writing and reading the rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

from kms.errors import invalid, not_found
from kms.operation import (
    Call,
    Capability,
    Change,
    Effect,
    Field,
    MountRef,
    NamespaceRef,
    Operation,
    Record,
    Result,
    Type,
)
from kms.system.quotas.store import QUOTA_SETTINGS, QUOTAS, SETTINGS, Quota, QuotaSettings
from kms.tables import Reader, Row, Store, Transaction

MAX_QUOTAS = 1_000
_MAX_PATH = 1_024
_KIND = "rate-limit"

_NAME = Field("name", record=Record.CLEAR)
_FIELDS = (
    _NAME,
    Field("path", default="", record=Record.CLEAR),
    Field("role", default="", record=Record.CLEAR),
    Field("rate", Type.ANY, record=Record.CLEAR),
    Field("interval", Type.SECONDS, default=0, record=Record.CLEAR),
    Field("block_interval", Type.SECONDS, default=0, record=Record.CLEAR),
    Field("inheritable", Type.BOOL, record=Record.CLEAR),
    Field("type", record=Record.CLEAR),
)
_SETTINGS = (
    Field("rate_limit_exempt_paths", Type.STRINGS, record=Record.CLEAR),
    Field("enable_rate_limit_response_headers", Type.BOOL, default=False, record=Record.CLEAR),
    Field("enable_rate_limit_audit_logging", Type.BOOL, default=False, record=Record.CLEAR),
)


class QuotaHandlers:
    """Handlers.

    Args:
        mount_at: the mount that answers a full path, which may be the mount's own with or without its slash.
        namespace_of: the namespace that a full path, which ends in a slash, lies in.
        with_roles: types of auth methods whose logins name a role.
    """

    def __init__(
        self,
        store: Store,
        mount_at: Callable[[str], MountRef | None],
        namespace_of: Callable[[str], NamespaceRef],
        with_roles: Collection[str],
    ) -> None:
        self._store = store
        self._mount_at = mount_at
        self._namespace_of = namespace_of
        self._with_roles = with_roles

    # -- rules -----------------------------------------------------------------------------------------

    def listing(self, _call: Call) -> Result:
        """Names."""
        names = self._store.reader().keys(QUOTAS)
        if not names:
            raise not_found()
        return Result(data={"keys": names})

    def read(self, call: Call) -> Result:
        """One rule."""
        row = self._row(call)
        if row is None:
            raise not_found()
        rule = row.value
        return Result(
            data={
                "block_interval": rule.block_interval,
                "inheritable": rule.inheritable,
                "interval": rule.interval,
                "name": row.key,
                "path": rule.path,
                "rate": int(rule.rate) if rule.rate.is_integer() else rule.rate,
                "role": rule.role,
                "type": _KIND,
            }
        )

    def exists(self, call: Call) -> bool:
        """Whether the rule is there: creating and updating are different rights."""
        return self._row(call) is not None

    def _row(self, call: Call) -> Row[Quota] | None:
        return self._store.reader().get(QUOTAS, str(call.args["name"]))

    def write(self, call: Call) -> Change:
        """A rule as a whole: what is not given is the default, not what it was."""
        name, rule = str(call.args["name"]), self._rule(call)

        def write(tx: Transaction) -> Result:
            for row in tx.scan(QUOTAS):
                if row.key != name and (row.value.path, row.value.role) == (rule.path, rule.role):
                    raise invalid(f'quota rule with similar properties exists under the name "{row.key}"')
            held = tx.get(QUOTAS, name)
            if held is not None:
                tx.replace(QUOTAS, held, rule)
            elif tx.count(QUOTAS, {}) >= MAX_QUOTAS:
                raise invalid(f"there are at most {MAX_QUOTAS} quotas; delete some")
            else:
                tx.insert(QUOTAS, name, rule)
            return Result(subject={"quota": name, "path": rule.path, "rate": str(rule.rate)})

        return Change(write)

    def _rule(self, call: Call) -> Quota:
        args = call.args
        path, role = self._place(str(args["path"] or "").lstrip("/"), str(args["role"] or ""))
        rate = _rate(args.get("rate"))
        if args["interval"] < 0 or args["block_interval"] < 0:
            raise invalid("'interval' and 'block_interval' cannot be negative")
        inheritable = args.get("inheritable")
        return Quota(
            path=path,
            role=role,
            rate=rate,
            interval=args["interval"] or 1,
            block_interval=args["block_interval"],
            inheritable=not path if inheritable is None else bool(inheritable),
        )

    def _place(self, path: str, role: str) -> tuple[str, str]:
        """The path in its one spelling: those of a namespace and of a mount end in a slash."""
        whole_path = path.rstrip("/") + "/"
        here = self._namespace_of(whole_path)
        if path and whole_path == here.path and not role:
            return here.path, role
        mount = self._mount_at(path) if path else None
        if path and (mount is None or mount.namespace != here):
            raise invalid(f'invalid mount path "{whole_path[len(here.path) :]}"')
        if len(path) > _MAX_PATH:
            raise invalid(f"a path has at most {_MAX_PATH} characters")
        whole = mount is not None and whole_path == mount.path
        if role and path and not whole:
            raise invalid(
                "Quotas cannot contain both a path suffix and a role. If a role is provided, path must be a valid"
                " auth mount with a concept of roles"
            )
        if role and (mount is None or not mount.place.startswith("auth/")):
            raise invalid(
                f'Mount path "{path}" is not a valid auth method and therefore unsuitable for use with role-based'
                " quotas"
            )
        if role and mount is not None and mount.type not in self._with_roles:
            raise invalid(f'Mount path "{mount.place}" does not support use with role-based quotas')
        return (mount.path if whole and mount is not None else path), role

    def delete(self, call: Call) -> Change:
        """Remove a rule; one that is not there is no error."""
        name = str(call.args["name"])

        def write(tx: Transaction) -> Result:
            row = tx.get(QUOTAS, name)
            if row is not None:
                tx.delete(QUOTAS, row)
            return Result(subject={"quota": name})

        return Change(write)

    # -- settings --------------------------------------------------------------------------------------

    def settings(self, _call: Call) -> Result:
        """The settings of all rules."""
        held = _settings(self._store.reader())
        return Result(
            data={
                "enable_rate_limit_audit_logging": held.audit,
                "enable_rate_limit_response_headers": held.headers,
                "rate_limit_exempt_paths": list(held.exempt),
            }
        )

    def configure(self, call: Call) -> Change:
        """The settings as a whole; exempt paths stay unless they are given."""
        args = call.args

        def write(tx: Transaction) -> Result:
            exempt = _settings(tx).exempt
            if "rate_limit_exempt_paths" in call.given:
                exempt = tuple(
                    dict.fromkeys(str(path).lstrip("/") for path in args["rate_limit_exempt_paths"])
                )
            settings = QuotaSettings(
                exempt=exempt,
                headers=args["enable_rate_limit_response_headers"],
                audit=args["enable_rate_limit_audit_logging"],
            )
            row = tx.get(QUOTA_SETTINGS, SETTINGS)
            if row is None:
                tx.insert(QUOTA_SETTINGS, SETTINGS, settings)
            else:
                tx.replace(QUOTA_SETTINGS, row, settings)
            return Result()

        return Change(write)

    def table(self) -> list[Operation]:
        """All of them."""
        read, update, state = Capability.READ, Capability.UPDATE, Effect.STATE
        name = (_NAME,)
        return [
            Operation("sys.quotas.list", Capability.LIST, self.listing),
            Operation("sys.quotas.read", read, self.read, fields=name),
            Operation(
                "sys.quotas.write", update, self.write, effect=state, exists=self.exists, fields=_FIELDS
            ),
            Operation("sys.quotas.delete", Capability.DELETE, self.delete, effect=state, fields=name),
            Operation("sys.quotas.settings", read, self.settings),
            Operation("sys.quotas.configure", update, self.configure, effect=state, fields=_SETTINGS),
        ]


def _settings(reader: Reader) -> QuotaSettings:
    row = reader.get(QUOTA_SETTINGS, SETTINGS)
    return row.value if row is not None else QuotaSettings()


def _rate(value: Any) -> float:
    try:
        number = isinstance(value, int | float | Decimal | str) and not isinstance(value, bool)
        rate = float(value) if number else 0.0
    except ValueError:
        raise invalid("'rate' must be a number") from None
    if not math.isfinite(rate) or not 0 < rate < 1e9:
        raise invalid("'rate' is invalid")
    return rate
