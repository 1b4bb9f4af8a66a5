"""config/acme of a mount."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kms.errors import ErrorKind, KmsError
from kms.operation import Call, Change, Result
from kms.tables import Store, Transaction
from pki.acme.directories import Directories
from pki.acme.identifiers import CHALLENGE_TYPES
from pki.acme.model import AcmeConfig, EabPolicy
from pki.acme.store import CONFIG
from pki.authority import Authorities
from pki.names import is_hostname
from pki.rolebook import RoleBook
from pki.store import put

LIMITS = ("orders_per_account", "pending_authorizations", "failed_validations", "accounts_per_address")
NO_CLUSTER_PATH = "ACME feature requires local cluster 'path' field configuration to be set"
_MAX_LIMIT = 1_000_000


@dataclass(frozen=True)
class AcmeSettings:
    """One per process."""

    store: Store
    directories: Directories
    authorities: Authorities
    roles: RoleBook

    def read(self, call: Call) -> Result:
        """config/acme."""
        config = self.directories.config(call.mount.id)
        missing = config.enabled and not self.authorities.config(call.mount.id).cluster_path
        return Result(data=_shown(config), warnings=(NO_CLUSTER_PATH,) if missing else ())

    def write(self, call: Call) -> Change:
        """config/acme; only what is given changes, and the whole must make sense."""
        changes = _changes(call.args, call.given)
        mount_id = call.mount.id

        def write(tx: Transaction) -> Result:
            row = tx.get(CONFIG, mount_id)
            config = msgspec.structs.replace(row.value if row is not None else AcmeConfig(), **changes)
            self._check(mount_id, config)
            put(tx, CONFIG, mount_id, config)
            return Result(data=_shown(config))

        return Change(write)

    def _check(self, mount_id: str, config: AcmeConfig) -> None:
        policy = config.default_directory_policy
        if policy.startswith("role:"):
            role = policy.removeprefix("role:")
            if not role:
                raise _refused(f"invalid default_directory_policy: no role specified by policy {policy}")
            self._check_role(mount_id, role, f"default directory policy role {role} is not a valid ACME role")
        elif policy not in {"forbid", "sign-verbatim"}:
            raise _refused(
                f"invalid default_directory_policy: string {policy} not a valid Default Directory Policy"
            )
        if config.allowed_roles != ("*",):
            self._check_roles(mount_id, config)
        if config.allowed_issuers != ("*",):
            self._check_issuers(mount_id, config)
        for name, role in config.profiles.items():
            self._check_role(mount_id, role, f"the role {role} of profile {name} is not a valid acme role")
        if config.enabled and not self.authorities.config(mount_id).cluster_path:
            raise _refused(NO_CLUSTER_PATH)

    def _check_roles(self, mount_id: str, config: AcmeConfig) -> None:
        for index, name in enumerate(config.allowed_roles):
            if name == "*":
                raise _refused(f"cannot use '*' as role name at index {index}")
            self._check_role(mount_id, name, f"allowed_role {name} is not a valid acme role")
        policy = config.default_directory_policy
        if policy.startswith("role:") and policy.removeprefix("role:") not in config.allowed_roles:
            raise _refused(
                f"default directory policy {policy} was not specified in allowed_roles:"
                f" [{' '.join(config.allowed_roles)}]"
            )

    def _check_issuers(self, mount_id: str, config: AcmeConfig) -> None:
        for index, name in enumerate(config.allowed_issuers):
            if name == "*":
                raise _refused(f"cannot use '*' as issuer name at index {index}")
            try:
                self.authorities.issuer(mount_id, name)
            except KmsError as error:
                raise _refused(
                    f"failed validating allowed_issuers: unable to fetch issuer: {name}: {error.detail}"
                ) from None

    def _check_role(self, mount_id: str, name: str, text: str) -> None:
        role = self.roles.role(mount_id, name)
        if role is None:
            raise _refused(f"{text}: the request message was malformed: role does not exist")
        if role.no_store:
            raise _refused(
                f"{text}: the server experienced an internal error:"
                " role can not be used as NoStore is set to true"
            )


def _changes(args: Mapping[str, Any], given: frozenset[str]) -> dict[str, Any]:
    return {name: check(name, args[name]) for name, check in _CHECKS.items() if name in given}


def _flag(_name: str, value: Any) -> bool:
    return bool(value)


def _text(_name: str, value: Any) -> str:
    return str(value)


def _limit(name: str, value: Any) -> int:
    if not 0 <= int(value) <= _MAX_LIMIT:
        raise _refused(f"{name} is a number from 0 (no limit) to {_MAX_LIMIT}")
    return int(value)


def _allowed(name: str, value: Any) -> tuple[str, ...]:
    if not value:
        raise _refused(
            f"{name} must take a non-zero length value; specify '*' as the value to allow anything"
            " or specify enabled=false to disable ACME entirely"
        )
    return tuple(value)


def _eab_policy(_name: str, text: Any) -> str:
    if text not in set(EabPolicy):
        raise _refused(
            "invalid eab policy name provided, valid values are 'not-required', 'new-account-required',"
            " 'always-required'"
        )
    return str(text)


def _resolver(_name: str, text: Any) -> str:
    """`address:port`, or "" for the system's resolvers."""
    text = str(text)
    if not text:
        return ""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise _refused(f"failed to parse DNS resolver address: address {text}: missing port in address")
    if not host:
        raise _refused("failed to parse DNS resolver address: got empty address")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise _refused(
            "failed to parse DNS resolver address: expected IPv4/IPv6 address, likely got hostname"
        ) from None
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise _refused("failed to parse DNS resolver address: the port is a number from 1 to 65535")
    return f"{host}:{port}"


def _types(_name: str, given: Any) -> tuple[str, ...]:
    for one in given:
        if one not in CHALLENGE_TYPES:
            raise _refused(f"challenge_types are of {', '.join(CHALLENGE_TYPES)}, not {one}")
    if not given:
        raise _refused("challenge_types names at least one type")
    return tuple(dict.fromkeys(given))


def _networks(_name: str, given: Any) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(one)) for one in given)
    except ValueError as error:
        raise _refused(f"allowed_networks are networks such as 10.0.0.0/8: {error}") from None


def _identities(_name: str, given: Any) -> tuple[str, ...]:
    if not all(is_hostname(one) for one in given):
        raise _refused("caa_identities are host names, as they stand in CAA records")
    return tuple(one.lower() for one in given)


def _profiles(_name: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(
        isinstance(one, str) for pair in given.items() for one in pair
    ):
        raise _refused("profiles maps the name of each profile to a role")
    return dict(given)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "enabled": _flag,
    "allow_role_ext_key_usage": _flag,
    "pre_authorization": _flag,
    "allowed_roles": _allowed,
    "allowed_issuers": _allowed,
    "default_directory_policy": _text,
    "website": _text,
    "terms_of_service": _text,
    "eab_policy": _eab_policy,
    "dns_resolver": _resolver,
    "challenge_types": _types,
    "allowed_networks": _networks,
    "caa_identities": _identities,
    "profiles": _profiles,
    **dict.fromkeys(LIMITS, _limit),
}


def _refused(text: str) -> KmsError:
    # The peer answers these with 500 inside its multierror frame.
    return KmsError(ErrorKind.INVALID, f"1 error occurred:\n\t* {text}\n\n", status=500)


def _shown(config: AcmeConfig) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in msgspec.structs.asdict(config).items()
    }
