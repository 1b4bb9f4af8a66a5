"""sys/control-group: what a request waits for, consenting to it, and which requests wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kms.clock import rfc3339
from kms.errors import not_found
from kms.identity.consent.model import Waiting
from kms.identity.consent.service import Consents
from kms.namespaces import unscoped
from kms.operation import Call, Capability, Change, Effect, Field, NamespaceRef, Operation, Record, Result
from kms.tables import Transaction

_HIDDEN = "(not shown)"
_NOBODY = "nobody asked for your consent: you hold none of the groups and policies that the request needs"


def consent_operations(consents: Consents, operation: Callable[[str], Operation | None]) -> list[Operation]:
    """The operations below sys/control-group/."""

    def request(call: Call) -> Result:
        waiting = consents.find(call.args.get("accessor") or "", call.namespace).value
        return Result(
            data=told(
                waiting, operation(waiting.operation), call.namespace, approved=consents.approved(waiting)
            )
        )

    def authorize(call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            waiting, asked = consents.approve(tx, call.args.get("accessor") or "", call)
            subject: dict[str, str | int] = {
                "accessor": waiting.accessor,
                "operation": waiting.operation,
                "path": waiting.path,
                "approvals": len(waiting.approvals),
            }
            warnings = () if asked else (_NOBODY,)
            return Result(data={"approved": consents.approved(waiting)}, warnings=warnings, subject=subject)

        return Change(write)

    def listed(call: Call) -> Result:
        rows = consents.waiting(call.namespace)
        if not rows:
            raise not_found()
        info = {
            row.accessor: told(row, operation(row.operation), call.namespace, approved=consents.approved(row))
            for row in rows
        }
        return Result(data={"keys": [row.accessor for row in rows], "key_info": info}, items=len(rows))

    fields = (Field("accessor", record=Record.CLEAR),)
    return [
        Operation("sys.control_group.request", Capability.UPDATE, request, fields=fields),
        Operation(
            "sys.control_group.authorize", Capability.UPDATE, authorize, effect=Effect.STATE, fields=fields
        ),
        Operation("sys.control_group.list", Capability.LIST, listed),
    ]


def told(
    waiting: Waiting, operation: Operation | None, namespace: NamespaceRef, *, approved: bool
) -> dict[str, Any]:
    """What those who are asked are told, in the namespace of the request. Of what was sent, they see what the audit log keeps in clear."""
    sent = msgspec.json.decode(waiting.arguments)
    clear = {field.name for field in operation.fields if field.record is Record.CLEAR} if operation else set()
    names = [name for name in waiting.given if name not in waiting.bound]
    data = {name: sent["args"].get(name) if name in clear else _HIDDEN for name in names}
    data |= dict.fromkeys(sent["extra"], _HIDDEN)
    return {
        "approved": approved,
        "request_operation": waiting.capability,
        "request_path": waiting.path[len(namespace.path) :],
        "request_data": data or None,
        "request_entity": {"ID": waiting.entity_id, "name": waiting.shown},
        "request_accessor": waiting.token_accessor,
        "authorizations": [
            {"entity_id": one.entity_id, "entity_name": one.shown} for one in waiting.approvals
        ],
        "factors": [
            {
                "name": factor.name,
                "approvals": factor.approvals,
                "group_names": [unscoped(name)[1] for name in factor.groups],
                "policy_names": [unscoped(name)[1] for name in factor.policies],
            }
            for group in waiting.groups
            for factor in group.factors
            if waiting.capability in factor.capabilities
        ],
        "creation_time": rfc3339(waiting.created),
        "expire_time": rfc3339(waiting.expires_at),
    }
