"""Roles: accepted with the peer's defaults, and nothing stored that could not be honoured later."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.errors import invalid, not_found
from kms.ids import check_name
from kms.operation import Call, Change, Field, Record, Result, Type
from kms.tables import Store, Transaction
from pki.listing import listed, page
from pki.ssh.model import Algorithm, SshRole
from pki.ssh.options import checked
from pki.ssh.store import MOUNTS, ROLES, mount_config
from pki.store import put

CA, OTP = "ca", "otp"
_SECONDS = {"ttl", "max_ttl", "not_before_duration"}
_OF_OTP = ("default_user", "cidr_list", "exclude_cidr_list", "key_type", "port", "allowed_users")
_NOT_OF_CA = ("cidr_list", "exclude_cidr_list", "port")
_SHA1 = "ssh-rsa signs with SHA-1, which OpenSSH refuses since 8.8: use rsa-sha2-256 or rsa-sha2-512"
_ALGORITHMS = {"": Algorithm.DEFAULT, **{str(algorithm): algorithm for algorithm in Algorithm}}


def role_fields() -> tuple[Field, ...]:
    """The API's fields, made from the struct so that they cannot drift apart."""
    return tuple(_field(field) for field in msgspec.structs.fields(SshRole))


def _field(field: Any) -> Field:
    default = None if field.default is msgspec.NODEFAULT else field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return Field(field.name, Type.MAP, {}, record=Record.CLEAR)
    if isinstance(default, bool):
        kind = Type.BOOL
    elif isinstance(default, int):
        kind = Type.SECONDS if field.name in _SECONDS else Type.INT
    else:
        kind = Type.STRING
    return Field(field.name, kind, default if default is not None else "", record=Record.CLEAR)


def make_role(args: Mapping[str, Any]) -> SshRole:
    """A role from request fields.

    Raises:
        KmsError(INVALID): the first thing that is wrong.
    """
    _check_networks("cidr_list", str(args["cidr_list"]))
    _check_networks("exclude_cidr_list entry", str(args["exclude_cidr_list"]))
    kind = str(args["key_type"]).lower()
    if kind == OTP:
        return _otp_role(args)
    if kind == CA:
        return _ca_role(args)
    if not kind:
        raise invalid("missing key type")
    if kind == "dynamic":
        raise invalid("dynamic key type roles are no longer supported")
    raise invalid("invalid key type")


def _otp_role(args: Mapping[str, Any]) -> SshRole:
    if not args["default_user"]:
        raise invalid("missing default user")
    values = {name: args[name] for name in _OF_OTP if name != "key_type"}
    if not 0 <= int(values["port"]) <= 65535:
        raise invalid("port must be between 1 and 65535")
    return SshRole(**{**values, "key_type": OTP, "port": int(values["port"]) or 22})


def _ca_role(args: Mapping[str, Any]) -> SshRole:
    names = {field.name for field in msgspec.structs.fields(SshRole)} - set(_NOT_OF_CA)
    values = {name: value for name, value in args.items() if name in names}
    asked = str(values["algorithm_signer"])
    if asked not in _ALGORITHMS:
        raise invalid(_SHA1 if asked == "ssh-rsa" else f'unknown algorithm signer "{asked}"')
    values["algorithm_signer"] = _ALGORITHMS[asked]
    if not values["allow_user_certificates"] and not values["allow_host_certificates"]:
        raise invalid("Either 'allow_user_certificates' or 'allow_host_certificates' must be set to 'true'")
    if values["allow_empty_principals"]:
        raise invalid(
            "a certificate without principals is valid for everybody: leave allow_empty_principals false"
        )
    values["default_critical_options"] = checked(values["default_critical_options"], "critical options")
    values["default_extensions"] = checked(values["default_extensions"], "extensions")
    values["allowed_user_key_lengths"] = _lengths(values["allowed_user_key_lengths"])
    if values["ttl"] and values["max_ttl"] and values["ttl"] > values["max_ttl"]:
        raise invalid('"ttl" value must be less than "max_ttl" when both are specified')
    return SshRole(**{**values, "key_type": CA, "issuer_ref": values["issuer_ref"] or "default"})


def _lengths(given: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    found = {}
    for name, value in given.items():
        items = value if isinstance(value, list) else [value]
        try:
            found[name] = tuple(int(str(item)) for item in items)
        except ValueError:
            raise invalid(f"error processing allowed_user_key_lengths: {name} needs sizes in bits") from None
    return found


def _check_networks(what: str, text: str) -> None:
    for part in text.split(",") if text else ():
        try:
            ipaddress.ip_network(part.strip(), strict=False)
        except ValueError:
            raise invalid(f"failed to validate {what}") from None
        if "/" not in part:
            raise invalid(f"failed to validate {what}: give networks, like 10.1.2.3/32")


def role_data(role: SshRole) -> dict[str, Any]:
    """A role as the API shows it: the fields of its key type."""
    values = msgspec.structs.asdict(role)
    if role.key_type == OTP:
        return {name: values[name] for name in _OF_OTP}
    lengths = {name: list(sizes) for name, sizes in role.allowed_user_key_lengths.items()}
    shown = {name: value for name, value in values.items() if name not in _NOT_OF_CA}
    return {**shown, "allowed_user_key_lengths": lengths, "key_type": CA}


@dataclass(frozen=True)
class SshRoles:
    """Roles as an administrator keeps them. One per process."""

    store: Store

    def get(self, mount_id: str, name: str) -> SshRole | None:
        """The role, or None."""
        row = self.store.reader().get(ROLES, f"{mount_id}/{name}")
        return row.value if row is not None else None

    def read(self, call: Call) -> Result:
        """All fields of a role."""
        role = self.get(call.mount.id, str(call.args["role"]))
        if role is None:
            raise not_found()
        return Result(data=role_data(role))

    def write(self, call: Call) -> Change:
        """Replace a role; what is not given falls back to its default."""
        name = check_name(str(call.args["role"]), "role name")
        role = make_role(call.args)

        def write(tx: Transaction) -> Result:
            put(tx, ROLES, f"{call.mount.id}/{name}", role)
            return Result()

        return Change(write)

    def delete(self, call: Call) -> Change:
        """Idempotent, as in the peer; the role is no longer good for any address either."""
        name = str(call.args["role"])

        def write(tx: Transaction) -> Result:
            row = tx.get(ROLES, f"{call.mount.id}/{name}")
            if row is not None:
                tx.delete(ROLES, row)
            config = mount_config(tx, call.mount.id)
            if name in config.zeroaddress:
                left = tuple(other for other in config.zeroaddress if other != name)
                put(tx, MOUNTS, call.mount.id, msgspec.structs.replace(config, zeroaddress=left))
            return Result()

        return Change(write)

    def list(self, call: Call) -> Result:
        """Names, and for each its key type and issuer."""
        names = page(self.store.reader(), ROLES, f"{call.mount.id}/", call.args)
        info = {}
        for name in names:
            role = self.get(call.mount.id, name)
            if role is not None:
                issuer = {"issuer_ref": role.issuer_ref} if role.key_type == CA else {}
                info[name] = {"key_type": role.key_type, **issuer}
        return listed(names, key_info=info)
