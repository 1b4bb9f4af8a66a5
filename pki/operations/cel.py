"""Roles that are programs, and issuing under them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.operation import Call, Capability, Effect, External, Field, Operation, Runs
from pki.declaring import Facts
from pki.fields import CEL_ISSUE_FIELDS, CEL_ROLE_FIELDS, CEL_SIGN_FIELDS, ROLE, clear
from pki.issuance import resolve_issue
from pki.operations.kinds import external, listing, read
from pki.service import PkiService


def table(service: PkiService) -> list[Operation]:
    """Operations of this file, for the registry."""
    roles, name = service.cel_roles, clear("name")

    def close(intent: Facts) -> External[Any] | None:
        return resolve_issue(intent, int(service.clock.now()))

    def once(named: str, act: Callable[[Call], External[bytes]], fields: tuple[Field, ...]) -> Operation:
        guard = service.idempotency
        return external(named, guard.guard(act), guard.closing(close), (*ROLE, *fields), Runs.THREAD)

    return [
        Operation(
            "pki.cel-role-write",
            Capability.UPDATE,
            roles.write,
            effect=Effect.STATE,
            exists=roles.exists,
            fields=(name, *CEL_ROLE_FIELDS),
        ),
        Operation(
            "pki.cel-role-patch",
            Capability.PATCH,
            roles.patch,
            effect=Effect.STATE,
            fields=(name, *CEL_ROLE_FIELDS),
        ),
        read("cel-role-read", roles.read, (name,)),
        Operation(
            "pki.cel-role-delete", Capability.DELETE, roles.delete, effect=Effect.STATE, fields=(name,)
        ),
        listing("cel-roles-list", roles.list),
        once("cel-issue", service.cel.issue, CEL_ISSUE_FIELDS),
        once("cel-sign", service.cel.sign, CEL_SIGN_FIELDS),
    ]
