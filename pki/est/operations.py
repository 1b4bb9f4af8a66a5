"""EST's table of operations. What a client sends is proof of itself (`Caller.PROOF`); the role decides what it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kms.operation import Call, Caller, External, Field, Operation, Runs, Type
from pki.declaring import Facts, Kinds
from pki.est.enrollment import BODY
from pki.est.service import EstService
from pki.fields import clear
from pki.issuance import resolve_issue

_PLACE = (clear("role"), clear("label"))
_USER = (clear("username"),)
_PKI = Kinds("pki")


def operations(service: EstService) -> list[Operation]:
    """All operations of EST, for the registry."""

    def close(intent: Facts) -> External[Any]:
        return resolve_issue(intent, int(service.clock.now()))

    def enroll(name: str, act: Callable[[Call], External[bytes]]) -> Operation:
        fields = (*_PLACE, Field(BODY, default=""))
        return _PKI.external(f"est-{name}", act, close, fields, Runs.THREAD, caller=Caller.PROOF)

    enrollment, settings = service.enrollment, service.settings
    config = (
        clear("enabled", Type.BOOL, False),
        clear("default_mount", Type.BOOL, False),
        clear("default_path_policy"),
        clear("label_to_path_policy", Type.MAP, {}),
        clear("authenticators", Type.ANY, ""),
    )
    roles = (*_USER, clear("roles", Type.STRINGS, []))
    return [
        _PKI.document("est-cacerts", enrollment.cacerts, _PLACE),
        _PKI.document("est-csrattrs", enrollment.csrattrs, _PLACE),
        enroll("simpleenroll", enrollment.simpleenroll),
        enroll("simplereenroll", enrollment.simplereenroll),
        enroll("serverkeygen", enrollment.serverkeygen),
        _PKI.read("config-est-read", settings.read),
        _PKI.state("config-est-write", settings.write, config),
        _PKI.state("est-user-write", settings.user_create, roles),
        _PKI.read("est-user-read", settings.user_read, _USER),
        _PKI.delete("est-user-delete", settings.user_delete, _USER),
        _PKI.listing("est-users-list", settings.user_list),
    ]
