"""The operations on policies: texts under sys/policies/acl and sys/policy, and sys/capabilities*."""

from __future__ import annotations

from typing import Protocol

from kms.clock import rfc3339
from kms.errors import invalid, not_found
from kms.operation import (
    Call,
    Capability,
    Change,
    Effect,
    Field,
    Operation,
    Principal,
    Record,
    Result,
    Runs,
    Type,
)
from kms.policy.builtin import ROOT
from kms.policy.decide import capabilities
from kms.policy.service import PolicyService
from kms.policy.store import PolicyRow
from kms.tables import Transaction

_MAX_PATHS = 1_000


class TokenPolicies(Protocol):
    """What identity tells about a token; policy itself never looks at one."""

    def principal_of_token(self, token: str) -> Principal:
        """Who a live token stands for. Raises KmsError(INVALID) when there is none."""
        ...

    def principal_of_accessor(self, accessor: str) -> Principal:
        """Who the live token with this accessor stands for. Raises KmsError(INVALID) when there is none."""
        ...


def operations(service: PolicyService, tokens: TokenPolicies) -> list[Operation]:
    """The table of operations; `kms.app` registers it."""
    handlers = _Handlers(service, tokens)
    name = Field("name", record=Record.CLEAR)
    text = Field("policy")
    paths = (
        Field("paths", Type.STRINGS, record=Record.CLEAR),
        Field("path", Type.STRINGS, record=Record.CLEAR),
    )
    return [
        Operation("policy.list", Capability.LIST, handlers.list, runs=Runs.INLINE),
        Operation("policy.read", Capability.READ, handlers.read, runs=Runs.INLINE, fields=(name,)),
        Operation(
            "policy.write", Capability.UPDATE, handlers.write, effect=Effect.STATE, fields=(name, text)
        ),
        Operation("policy.delete", Capability.DELETE, handlers.delete, effect=Effect.STATE, fields=(name,)),
        Operation("policy.list_old", Capability.LIST, handlers.list_old, runs=Runs.INLINE),
        # The old path lists under the verb of a read, too.
        Operation("policy.index_old", Capability.READ, handlers.list_old, runs=Runs.INLINE),
        Operation("policy.read_old", Capability.READ, handlers.read_old, runs=Runs.INLINE, fields=(name,)),
        Operation(
            "policy.write_old",
            Capability.UPDATE,
            handlers.write_old,
            effect=Effect.STATE,
            fields=(name, text, Field("rules")),
        ),
        Operation(
            "policy.capabilities",
            Capability.UPDATE,
            handlers.of_token,
            runs=Runs.INLINE,
            fields=(*paths, Field("token")),
        ),
        Operation(
            "policy.capabilities_self", Capability.UPDATE, handlers.of_self, runs=Runs.INLINE, fields=paths
        ),
        Operation(
            "policy.capabilities_accessor",
            Capability.UPDATE,
            handlers.of_accessor,
            runs=Runs.INLINE,
            fields=(*paths, Field("accessor", record=Record.HMAC)),
        ),
    ]


class _Handlers:
    def __init__(self, service: PolicyService, tokens: TokenPolicies) -> None:
        self._service = service
        self._tokens = tokens

    def list(self, _call: Call) -> Result:
        return Result(data={"keys": self._service.list()})

    def list_old(self, _call: Call) -> Result:
        names = self._service.list()
        return Result(data={"keys": names, "policies": names})

    def read(self, call: Call) -> Result:
        row = self._row(call)
        return Result(data={**_facts(row), "policy": row.text})

    def read_old(self, call: Call) -> Result:
        row = self._row(call)
        return Result(data={**_facts(row), "rules": row.text})

    def _row(self, call: Call) -> PolicyRow:
        row = self._service.get(call.args["name"])
        if row is None:
            raise not_found()
        return row

    def write(self, call: Call) -> Change:
        return self._write(call, call.args.get("policy") or "", ())

    def write_old(self, call: Call) -> Change:
        text, rules = call.args.get("policy") or "", call.args.get("rules") or ""
        if text or not rules:
            return self._write(call, text, ())
        return self._write(call, rules, ("'rules' is deprecated, please use 'policy' instead",))

    def _write(self, call: Call, text: str, warnings: tuple[str, ...]) -> Change:
        prepared = self._service.prepare(call.args["name"], text)

        def write(tx: Transaction) -> Result:
            row = self._service.put(tx, prepared)
            return Result(warnings=warnings, subject={"policy": row.name, "version": row.version})

        return Change(write)

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            self._service.delete(tx, call.args["name"])
            return Result()

        return Change(write)

    def of_token(self, call: Call) -> Result:
        token = call.args.get("token") or ""
        if not token:
            raise invalid("no token found")
        return self._capabilities(call, self._tokens.principal_of_token(token))

    def of_self(self, call: Call) -> Result:
        return self._capabilities(call, call.principal)

    def of_accessor(self, call: Call) -> Result:
        accessor = call.args.get("accessor") or ""
        if not accessor:
            raise invalid("missing accessor")
        return self._capabilities(call, self._tokens.principal_of_accessor(accessor))

    def _capabilities(self, call: Call, principal: Principal) -> Result:
        paths = call.args.get("paths") or call.args.get("path") or []
        if not paths:
            raise invalid("paths must be supplied")
        if len(paths) > _MAX_PATHS:
            raise invalid(f"more than {_MAX_PATHS} paths; ask in several requests")
        if not all(paths):
            raise invalid("missing path")
        acl = self._service.acl_of(principal)
        data: dict[str, list[str]] = {path: capabilities(acl, path) for path in paths}
        if len(paths) == 1:
            data["capabilities"] = data[paths[0]]
        return Result(data=data, items=len(paths))


def _facts(row: PolicyRow) -> dict[str, object]:
    facts: dict[str, object] = {
        "allow_slashes_in_identity_templates": False,
        "allow_wildcards_in_identity_templates": False,
        "cas_required": False,
        "name": row.name,
        "version": row.version,
    }
    if row.name != ROOT:
        facts["modified"] = rfc3339(row.modified)
    return facts
