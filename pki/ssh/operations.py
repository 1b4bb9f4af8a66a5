"""The SSH CA's table of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kms.operation import (
    Call,
    Caller,
    Capability,
    Effect,
    Evidence,
    External,
    Field,
    Operation,
    Outcome,
    Result,
    Runs,
    Type,
)
from pki.fields import LIST_FIELDS, clear
from pki.ssh import ledger
from pki.ssh.roles import role_fields
from pki.ssh.service import SshService

_ROLE = (clear("role"),)
_ISSUER = (clear("issuer_ref"),)
_CA = (
    clear("generate_signing_key", Type.BOOL, True),
    clear("issuer_name"),
    clear("key_type", default="ssh-rsa"),
    clear("key_bits", Type.INT, 0),
    Field("private_key", default=""),
    clear("public_key"),
)
_CERTIFICATE = (
    clear("cert_type", default="user"),
    clear("valid_principals"),
    clear("key_id"),
    clear("ttl", Type.SECONDS, 0),
    clear("critical_options", Type.MAP, {}),
    clear("extensions", Type.MAP, {}),
)

Facts = Mapping[str, str | int]


def operations(service: SshService) -> list[Operation]:
    """All operations of the engine, for the registry."""
    return [*_authorities(service), *_certificates(service), *_roles(service), *_passwords(service)]


def _authorities(service: SshService) -> list[Operation]:
    def undo(intent: Facts) -> External[Any] | None:
        return service.leftovers.resolve(intent, int(service.clock.now()))

    admin, made = service.issuers, service.ceremonies
    named = (*_CA, clear("set_default", Type.BOOL, False))
    return [
        _external("ca-write", made.default_ca, undo, _CA),
        _external("issuer-import", made.issuer, undo, named),
        _read("ca-read", admin.read),
        _state("ca-delete", Capability.DELETE, admin.purge),
        _list("issuers-list", admin.list),
        _read("issuer-read", admin.read, _ISSUER),
        _state("issuer-write", Capability.UPDATE, admin.write, (*_ISSUER, clear("issuer_name"))),
        _state("issuer-delete", Capability.DELETE, admin.delete, _ISSUER),
        _read("config-issuers-read", admin.default_read),
        _state("config-issuers-write", Capability.UPDATE, admin.default_write, (clear("default"),)),
        _public("public-key", admin.public_key),
        _public("issuer-public-key", admin.public_key, _ISSUER),
    ]


def _certificates(service: SshService) -> list[Operation]:
    def close(intent: Facts) -> External[Any] | None:
        return ledger.resolve(intent, int(service.clock.now()))

    found = service.revocations
    key = (clear("key_type", default="rsa"), clear("key_bits", Type.INT, 0))
    named = (*_ISSUER, clear("serial_number"), clear("key_id"), clear("public_key"), clear("fingerprint"))
    sign = (*_ROLE, *_CERTIFICATE, Field("public_key", default=""))
    return [
        _external("sign", service.issuance.sign, close, sign, Runs.THREAD),
        _external("issue", service.issuance.issue, close, (*_ROLE, *_CERTIFICATE, *key), Runs.THREAD),
        _list("certs-list", found.list),
        _read("cert-read", found.certificate, (clear("serial"),)),
        _state("revoke", Capability.UPDATE, found.revoke, named),
        _list("revoked-list", found.revoked),
        _state("tidy", Capability.UPDATE, found.tidy, (clear("safety_buffer", Type.SECONDS, 0),)),
        _public("krl", found.krl),
    ]


def _roles(service: SshService) -> list[Operation]:
    roles = service.roles
    fields = (*_ROLE, *role_fields())
    return [
        _read("role-read", roles.read, _ROLE),
        _state("role-write", Capability.UPDATE, roles.write, fields),
        _state("role-delete", Capability.DELETE, roles.delete, _ROLE),
        _list("roles-list", roles.list),
    ]


def _passwords(service: SshService) -> list[Operation]:
    passwords = service.passwords
    names = (clear("roles", Type.STRINGS, []),)
    asked = (*_ROLE, clear("ip"), clear("username"))
    return [
        _state("creds", Capability.UPDATE, passwords.create, asked),
        Operation("ssh.lookup", Capability.UPDATE, passwords.lookup, fields=(clear("ip"),)),
        Operation(
            "ssh.verify",
            Capability.UPDATE,
            passwords.verify,
            effect=Effect.STATE,
            caller=Caller.PUBLIC,
            fields=(Field("otp", default=""),),
        ),
        _read("config-zeroaddress-read", passwords.zeroaddress_read),
        _state("config-zeroaddress-write", Capability.UPDATE, passwords.zeroaddress_write, names),
        _state("config-zeroaddress-delete", Capability.DELETE, passwords.zeroaddress_delete),
    ]


def _external(
    name: str,
    act: Callable[[Call], Outcome],
    resolve: Callable[[Facts], External[Any] | None],
    fields: tuple[Field, ...],
    runs: Runs = Runs.POOL,
) -> Operation:
    return Operation(
        f"ssh.{name}",
        Capability.UPDATE,
        act,
        effect=Effect.EXTERNAL,
        runs=runs,
        resolve=resolve,
        fields=fields,
    )


def _state(
    name: str, capability: Capability, act: Callable[[Call], Outcome], fields: tuple[Field, ...] = ()
) -> Operation:
    return Operation(f"ssh.{name}", capability, act, effect=Effect.STATE, fields=fields)


def _read(name: str, act: Callable[[Call], Result], fields: tuple[Field, ...] = ()) -> Operation:
    return Operation(f"ssh.{name}", Capability.READ, act, fields=fields)


def _list(name: str, act: Callable[[Call], Result]) -> Operation:
    return Operation(f"ssh.{name}", Capability.LIST, act, fields=LIST_FIELDS)


def _public(name: str, act: Callable[[Call], Result], fields: tuple[Field, ...] = ()) -> Operation:
    """Answered to anybody, and counted. From sealed rows: what hosts are to trust, nobody may swap on disk."""
    return Operation(
        f"ssh.{name}",
        Capability.READ,
        act,
        caller=Caller.PUBLIC,
        evidence=Evidence.COUNTED,
        fields=fields,
    )
