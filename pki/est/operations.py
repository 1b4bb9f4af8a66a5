"""EST's table of operations. What a client sends is proof of itself (`Caller.PROOF`); the role decides what it gets."""

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
    Needs,
    Operation,
    Result,
    Runs,
    Type,
)
from pki.est.enrollment import BODY
from pki.est.service import EstService
from pki.fields import LIST_FIELDS, clear
from pki.issuance import resolve_issue

_PLACE = (clear("role"), clear("label"))
_USER = (clear("username"),)


def operations(service: EstService) -> list[Operation]:
    """All operations of EST, for the registry."""

    def close(intent: Mapping[str, str | int]) -> External[Any]:
        return resolve_issue(intent, int(service.clock.now()))

    def enroll(name: str, act: Callable[[Call], External[bytes]]) -> Operation:
        return Operation(
            f"pki.est-{name}",
            Capability.UPDATE,
            act,
            effect=Effect.EXTERNAL,
            caller=Caller.PROOF,
            runs=Runs.THREAD,
            resolve=close,
            fields=(*_PLACE, Field(BODY, default="")),
        )

    def public(name: str, act: Callable[[Call], Result]) -> Operation:
        return Operation(
            f"pki.est-{name}",
            Capability.READ,
            act,
            caller=Caller.PUBLIC,
            evidence=Evidence.COUNTED,
            needs=Needs.UNSEALED,
            fields=_PLACE,
        )

    enrollment, settings = service.enrollment, service.settings
    config = (
        clear("enabled", Type.BOOL, False),
        clear("default_mount", Type.BOOL, False),
        clear("default_path_policy"),
        clear("label_to_path_policy", Type.MAP, {}),
        clear("authenticators", Type.ANY, ""),
    )
    roles = (*_USER, clear("roles", Type.STRINGS, []))
    update, state = Capability.UPDATE, Effect.STATE
    return [
        public("cacerts", enrollment.cacerts),
        public("csrattrs", enrollment.csrattrs),
        enroll("simpleenroll", enrollment.simpleenroll),
        enroll("simplereenroll", enrollment.simplereenroll),
        enroll("serverkeygen", enrollment.serverkeygen),
        Operation("pki.config-est-read", Capability.READ, settings.read),
        Operation("pki.config-est-write", update, settings.write, effect=state, fields=config),
        Operation("pki.est-user-write", update, settings.user_create, effect=state, fields=roles),
        Operation("pki.est-user-read", Capability.READ, settings.user_read, fields=_USER),
        Operation("pki.est-user-delete", Capability.DELETE, settings.user_delete, effect=state, fields=_USER),
        Operation("pki.est-users-list", Capability.LIST, settings.user_list, fields=LIST_FIELDS),
    ]
