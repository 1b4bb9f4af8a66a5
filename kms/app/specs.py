"""sys/internal/specs/openapi: what of the API the caller can reach, described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kms.http.vault.openapi import Mounted, describe
from kms.http.vault.route import Route
from kms.operation import Call, Caller, Capability, Field, Operation, Principal, Record, Result, Type
from kms.policy import PolicyService
from kms.registry import Registry
from kms.system.mounts import MountTable
from kms.system.sealing import API_VERSION


class Described(Protocol):
    """What is described; the road is built after the handlers, so it is looked at when somebody asks."""

    routes: Mapping[str, tuple[Route, ...]]
    registry: Registry
    mounts: MountTable
    policies: PolicyService


def specs(app: Described, authenticate: Callable[[str, str], Principal]) -> list[Operation]:
    """The table of operations."""

    def openapi(call: Call) -> Result:
        seen: list[Mounted] = []
        if call.credential:
            call.principal = authenticate(call.credential, call.peer)
            acl = app.policies.acl_of(call.principal)
            rows = app.mounts.within(call.namespace).items()
            seen = [Mounted(path, row.value.type) for path, row in rows if acl.reaches(row.key)]
        generic = bool(call.args["generic_mount_paths"])
        return Result(describe(seen, app.routes, app.registry, API_VERSION, generic=generic))

    fields = (
        Field("generic_mount_paths", Type.BOOL, default=False, record=Record.CLEAR),
        Field("context", record=Record.CLEAR),
    )
    return [
        Operation(f"sys.internal.openapi{name}", capability, openapi, caller=Caller.PROOF, fields=fields)
        for name, capability in (("", Capability.READ), (".post", Capability.UPDATE))
    ]
