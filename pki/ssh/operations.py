"""The SSH CA's table of operations."""

from __future__ import annotations

from typing import Any

from kms.operation import Caller, Capability, Effect, External, Field, Operation, Runs, Type
from pki.declaring import Facts, Kinds
from pki.fields import clear
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

_SSH = Kinds("ssh")


def operations(service: SshService) -> list[Operation]:
    """All operations of the engine, for the registry."""
    return [*_authorities(service), *_certificates(service), *_roles(service), *_passwords(service)]


def _authorities(service: SshService) -> list[Operation]:
    def undo(intent: Facts) -> External[Any] | None:
        return service.leftovers.resolve(intent, int(service.clock.now()))

    admin, made = service.issuers, service.ceremonies
    named = (*_CA, clear("set_default", Type.BOOL, False))
    return [
        _SSH.external("ca-write", made.default_ca, undo, _CA),
        _SSH.external("issuer-import", made.issuer, undo, named),
        _SSH.read("ca-read", admin.read),
        _SSH.delete("ca-delete", admin.purge),
        _SSH.listing("issuers-list", admin.list),
        _SSH.read("issuer-read", admin.read, _ISSUER),
        _SSH.state("issuer-write", admin.write, (*_ISSUER, clear("issuer_name"))),
        _SSH.delete("issuer-delete", admin.delete, _ISSUER),
        _SSH.read("config-issuers-read", admin.default_read),
        _SSH.state("config-issuers-write", admin.default_write, (clear("default"),)),
        # From sealed rows: what hosts are to trust, nobody may swap on disk.
        _SSH.document("public-key", admin.public_key),
        _SSH.document("issuer-public-key", admin.public_key, _ISSUER),
    ]


def _certificates(service: SshService) -> list[Operation]:
    def close(intent: Facts) -> External[Any] | None:
        return ledger.resolve(intent, int(service.clock.now()))

    found = service.revocations
    key = (clear("key_type", default="rsa"), clear("key_bits", Type.INT, 0))
    named = (*_ISSUER, clear("serial_number"), clear("key_id"), clear("public_key"), clear("fingerprint"))
    sign = (*_ROLE, *_CERTIFICATE, Field("public_key", default=""))
    return [
        _SSH.external("sign", service.issuance.sign, close, sign, Runs.THREAD),
        _SSH.external("issue", service.issuance.issue, close, (*_ROLE, *_CERTIFICATE, *key), Runs.THREAD),
        _SSH.listing("certs-list", found.list),
        _SSH.read("cert-read", found.certificate, (clear("serial"),)),
        _SSH.state("revoke", found.revoke, named),
        _SSH.listing("revoked-list", found.revoked),
        _SSH.state("tidy", found.tidy, (clear("safety_buffer", Type.SECONDS, 0),)),
        _SSH.document("krl", found.krl),
    ]


def _roles(service: SshService) -> list[Operation]:
    roles = service.roles
    fields = (*_ROLE, *role_fields())
    return [
        _SSH.read("role-read", roles.read, _ROLE),
        _SSH.state("role-write", roles.write, fields),
        _SSH.delete("role-delete", roles.delete, _ROLE),
        _SSH.listing("roles-list", roles.list),
    ]


def _passwords(service: SshService) -> list[Operation]:
    passwords = service.passwords
    names = (clear("roles", Type.STRINGS, []),)
    asked = (*_ROLE, clear("ip"), clear("username"))
    return [
        _SSH.state("creds", passwords.create, asked),
        Operation("ssh.lookup", Capability.UPDATE, passwords.lookup, fields=(clear("ip"),)),
        Operation(
            "ssh.verify",
            Capability.UPDATE,
            passwords.verify,
            effect=Effect.STATE,
            caller=Caller.PUBLIC,
            fields=(Field("otp", default=""),),
        ),
        _SSH.read("config-zeroaddress-read", passwords.zeroaddress_read),
        _SSH.state("config-zeroaddress-write", passwords.zeroaddress_write, names),
        _SSH.delete("config-zeroaddress-delete", passwords.zeroaddress_delete),
    ]
