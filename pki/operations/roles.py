"""Roles."""

from __future__ import annotations

from kms.operation import Capability, Effect, Operation
from pki.fields import ROLE_FIELDS, clear
from pki.operations.kinds import listing, read
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""
    roles, name = service.roles, clear("name")
    return [
        Operation(
            "pki.role-write",
            Capability.UPDATE,
            roles.write,
            effect=Effect.STATE,
            exists=roles.exists,
            fields=(name, *ROLE_FIELDS),
        ),
        Operation(
            "pki.role-patch",
            Capability.PATCH,
            roles.patch,
            effect=Effect.STATE,
            fields=(name, *ROLE_FIELDS),
        ),
        read("role-read", roles.read, (name,)),
        Operation(
            "pki.role-delete",
            Capability.DELETE,
            roles.delete,
            effect=Effect.STATE,
            fields=(name,),
        ),
        listing("roles-list", roles.list),
    ]
