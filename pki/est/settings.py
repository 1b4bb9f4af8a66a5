"""config/est of a mount, and the passwords of devices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.errors import invalid, not_found
from kms.ids import base62, check_name
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.est.model import AUTHENTICATORS, VERBATIM, EstConfig, EstUser
from pki.est.places import Places
from pki.est.store import CONFIG, USERS
from pki.listing import listed, page
from pki.rolebook import RoleBook
from pki.store import put

PASSWORD_CHARACTERS = 32
MAX_LABELS = 256
# What the last segment of an EST path may be: no label is called like one.
OPERATIONS = ("cacerts", "csrattrs", "simpleenroll", "simplereenroll", "serverkeygen", "fullcmc")


@dataclass(frozen=True)
class EstSettings:
    """One per process."""

    store: Store
    places: Places
    roles: RoleBook

    def read(self, call: Call) -> Result:
        """config/est."""
        return Result(data=_shown(self.places.config(call.mount.id)))

    def write(self, call: Call) -> Change:
        """config/est; only what is given changes, and the whole must make sense."""
        changes = {name: check(call.args[name]) for name, check in _CHECKS.items() if name in call.given}
        if "authenticators" in changes:
            changes["userpass_accessor"] = _accessor(call.args["authenticators"])
        mount_id, now = call.mount.id, int(call.now)
        changes["namespace"] = call.mount.namespace.id

        def write(tx: Transaction) -> Result:
            row = tx.get(CONFIG, mount_id)
            before = row.value if row is not None else EstConfig()
            config = msgspec.structs.replace(before, **changes, last_updated=now)
            if config.namespace and config.default_mount:
                raise invalid(
                    "/.well-known/est/ answers for mounts of the root namespace only; leave default_mount out"
                )
            self._check_policies(mount_id, config)
            _check_unique(tx, mount_id, config)
            put(tx, CONFIG, mount_id, config)
            return Result(data=_shown(config))

        return Change(write)

    def _check_policies(self, mount_id: str, config: EstConfig) -> None:
        policies = [*config.label_to_path_policy.values()]
        if config.default_path_policy:
            policies.append(config.default_path_policy)
        for policy in policies:
            name = policy.removeprefix("role:")
            if policy != VERBATIM and (name == policy or self.roles.role(mount_id, name) is None):
                raise invalid(
                    f'"{policy}" is no path policy: use {VERBATIM}, or role: and the name of a role'
                )
        if config.enabled and config.default_mount and not config.default_path_policy:
            raise invalid("default_mount needs a default_path_policy")

    # -- passwords -----------------------------------------------------------------------------------

    def user_create(self, call: Call) -> Change:
        """A new password for a device; shown once."""
        name = check_name(str(call.args["username"]), "username")
        roles = tuple(call.args["roles"]) or ("*",)
        for role in roles:
            if role != "*" and self.roles.role(call.mount.id, role) is None:
                raise invalid(f"role {role} does not exist")
        made = base62(PASSWORD_CHARACTERS)
        user = EstUser(sha256=hashlib.sha256(made.encode()).digest(), roles=roles, created_at=int(call.now))

        def write(tx: Transaction) -> Result:
            put(tx, USERS, f"{call.mount.id}/{name}", user)
            data = {"username": name, "password": made, "roles": list(roles)}
            return Result(data=data, subject={"username": name})

        return Change(write)

    def user_read(self, call: Call) -> Result:
        """A device, without its password."""
        row = self.store.reader().get(USERS, f"{call.mount.id}/{call.args['username']}")
        if row is None:
            raise not_found()
        return Result(data={"roles": list(row.value.roles), "created_at": row.value.created_at})

    def user_delete(self, call: Call) -> Change:
        """Idempotent. What it has enrolled stays."""
        key = f"{call.mount.id}/{call.args['username']}"

        def write(tx: Transaction) -> Result:
            row = tx.get(USERS, key)
            if row is not None:
                tx.delete(USERS, row)
            return Result()

        return Change(write)

    def user_list(self, call: Call) -> Result:
        """Names."""
        return listed(page(self.store.reader(), USERS, f"{call.mount.id}/", call.args))


def _check_unique(tx: Transaction, mount_id: str, config: EstConfig) -> None:
    """/.well-known/est/ is one place for all mounts."""
    if not config.enabled or config.namespace:
        return
    for row in tx.scan(CONFIG):
        if row.key == mount_id or not row.value.enabled or row.value.namespace:
            continue
        if config.default_mount and row.value.default_mount:
            raise invalid("another mount is the default_mount of /.well-known/est/")
        taken = sorted(set(config.label_to_path_policy) & set(row.value.label_to_path_policy))
        if taken:
            raise invalid(f"the label {taken[0]} is another mount's")


def _flag(value: Any) -> bool:
    return bool(value)


def _text(value: Any) -> str:
    return str(value)


def _labels(value: Mapping[str, Any]) -> dict[str, str]:
    if len(value) > MAX_LABELS:
        raise invalid(f"a mount has at most {MAX_LABELS} labels")
    for label, policy in value.items():
        check_name(label, "label")
        if label in OPERATIONS:
            raise invalid(f"{label} is an operation of EST and cannot be a label")
        if not isinstance(policy, str):
            raise invalid("label_to_path_policy maps labels to path policies")
    return dict(value)


def _authenticators(value: Any) -> tuple[str, ...]:
    """Names; or a map of them, as Vault writes it."""
    names = tuple(value) if isinstance(value, dict | list) else tuple(str(value).split(","))
    for name in names:
        if name not in AUTHENTICATORS:
            raise invalid(f"authenticators are of {', '.join(AUTHENTICATORS)}")
    return tuple(sorted(set(names)))


def _accessor(value: Any) -> str:
    """Of {"userpass": {"accessor": ...}}."""
    wanted = value.get("userpass") if isinstance(value, dict) else None
    accessor = wanted.get("accessor") if isinstance(wanted, dict) else None
    if not isinstance(accessor, str) and "userpass" in _authenticators(value):
        raise invalid('userpass needs the accessor of its mount: {"userpass": {"accessor": "userpass_..."}}')
    return accessor if isinstance(accessor, str) else ""


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "enabled": _flag,
    "default_mount": _flag,
    "default_path_policy": _text,
    "label_to_path_policy": _labels,
    "authenticators": _authenticators,
}


def _shown(config: EstConfig) -> dict[str, Any]:
    values = msgspec.structs.asdict(config)
    accessor = {"accessor": values.pop("userpass_accessor")}
    del values["namespace"]
    shown = {name: accessor if name == "userpass" else {} for name in config.authenticators}
    return {**values, "authenticators": shown}
