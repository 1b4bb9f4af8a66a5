"""The operations on policies: texts under sys/policies/acl and sys/policy, and sys/capabilities*."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from kms.clock import Clock, rfc3339
from kms.errors import invalid, not_found
from kms.operation import (
    Call,
    Capability,
    Change,
    Effect,
    Field,
    NamespaceRef,
    Operation,
    Principal,
    Record,
    Result,
    Runs,
    Type,
)
from kms.policy.builtin import ROOT
from kms.policy.conditions import read_time
from kms.policy.decide import capabilities
from kms.policy.service import Options, PolicyService
from kms.policy.store import PolicyRow
from kms.tables import Transaction

_MAX_PATHS = 1_000


class TokenPolicies(Protocol):
    """What identity tells about a token; policy itself never looks at one."""

    def principal_of_token(self, token: str, namespace: NamespaceRef) -> Principal:
        """Who a live token of a namespace stands for. Raises KmsError(INVALID) when there is none."""
        ...

    def principal_of_accessor(self, accessor: str, namespace: NamespaceRef) -> Principal:
        """Who the live token with this accessor stands for. Raises KmsError(INVALID) when there is none."""
        ...


def operations(service: PolicyService, tokens: TokenPolicies, clock: Clock) -> list[Operation]:
    """The table of operations; `kms.app` registers it."""
    handlers = _Handlers(service, tokens, clock)
    name = Field("name", record=Record.CLEAR)
    folder = (Field("folder", default="", record=Record.CLEAR),)
    text = Field("policy")
    options = (
        Field("cas", Type.INT, record=Record.CLEAR),
        Field("cas_required", Type.BOOL, default=False, record=Record.CLEAR),
        Field("expiration", Type.ANY, record=Record.CLEAR),
        Field("ttl", Type.SECONDS, record=Record.CLEAR),
        Field("allow_wildcards_in_identity_templates", Type.BOOL, default=False, record=Record.CLEAR),
        Field("allow_slashes_in_identity_templates", Type.BOOL, default=False, record=Record.CLEAR),
    )
    paths = (
        Field("paths", Type.STRINGS, record=Record.CLEAR),
        Field("path", Type.STRINGS, record=Record.CLEAR),
    )
    return [
        Operation("policy.list", Capability.LIST, handlers.list, runs=Runs.INLINE, fields=folder),
        Operation("policy.read", Capability.READ, handlers.read, runs=Runs.INLINE, fields=(name,)),
        Operation("policy.list_detailed", Capability.LIST, handlers.list_detailed, fields=folder),
        Operation(
            "policy.write",
            Capability.UPDATE,
            handlers.write,
            effect=Effect.STATE,
            fields=(name, text, *options),
        ),
        Operation(
            "policy.patch",
            Capability.PATCH,
            handlers.patch,
            effect=Effect.STATE,
            fields=(name, text, *options),
        ),
        Operation("policy.delete", Capability.DELETE, handlers.delete, effect=Effect.STATE, fields=(name,)),
        Operation("policy.list_old", Capability.LIST, handlers.list_old, runs=Runs.INLINE, fields=folder),
        # The old path lists under the verb of a read, too.
        Operation("policy.index_old", Capability.READ, handlers.list_old, runs=Runs.INLINE),
        Operation("policy.read_old", Capability.READ, handlers.read_old, runs=Runs.INLINE, fields=(name,)),
        Operation(
            "policy.write_old",
            Capability.UPDATE,
            handlers.write_old,
            effect=Effect.STATE,
            fields=(name, text, Field("rules"), *options),
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
    def __init__(self, service: PolicyService, tokens: TokenPolicies, clock: Clock) -> None:
        self._service = service
        self._tokens = tokens
        self._clock = clock

    def _names(self, call: Call) -> list[str]:
        return self._service.list(call.namespace, call.args.get("folder") or "")

    def list(self, call: Call) -> Result:
        names = self._names(call)
        if not names:
            raise not_found()
        return Result(data={"keys": names}, items=len(names))

    def list_detailed(self, call: Call) -> Result:
        names, here = self._names(call), call.namespace
        if not here.id and ROOT not in names:
            names.append(ROOT)  # as the peer: with the texts it is shown in every folder
        if not names:
            raise not_found()
        rows = [row for name in names if (row := self._service.get(name, here)) is not None]
        shown = {row.name: {**_facts(row), "policy": row.text} for row in rows}
        return Result(data={"keys": [row.name for row in rows], "key_info": shown}, items=len(rows))

    def list_old(self, call: Call) -> Result:
        names = self._names(call)
        if not names:
            return Result(data={"policies": None})
        return Result(data={"keys": names, "policies": names}, items=len(names))

    def read(self, call: Call) -> Result:
        row = self._row(call)
        return Result(data={**_facts(row), "policy": row.text})

    def read_old(self, call: Call) -> Result:
        row = self._row(call)
        return Result(data={**_facts(row), "rules": row.text})

    def _row(self, call: Call) -> PolicyRow:
        row = self._service.get(call.args["name"], call.namespace)
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
        options = self._options(call, None)
        prepared = self._service.prepare(call.args["name"], text, options, call.namespace)

        def write(tx: Transaction) -> Result:
            row = self._service.put(tx, prepared)
            return Result(warnings=warnings, subject={"policy": row.name, "version": row.version})

        return Change(write)

    def patch(self, call: Call) -> Change:
        held = self._service.get(call.args["name"], call.namespace)
        if held is None:
            raise invalid("policy not found")
        options = self._options(call, held)
        text = call.args["policy"] if "policy" in call.given else held.text
        if options.cas is None:  # the version that was read, so that nobody's change in between is lost
            options = replace(options, cas=held.version)
        prepared = self._service.prepare(call.args["name"], text, options, call.namespace)

        def write(tx: Transaction) -> Result:
            row = self._service.put(tx, prepared)
            return Result(subject={"policy": row.name, "version": row.version})

        return Change(write)

    def _options(self, call: Call, held: PolicyRow | None) -> Options:
        """What was sent, over what is there (a patch) or over the defaults (a write)."""
        kept = {
            "cas_required": held is not None and held.cas_required,
            "allow_wildcards_in_identity_templates": held is not None and held.document.wildcards,
            "allow_slashes_in_identity_templates": held is not None and held.document.slashes,
        }
        flags = {name: call.args[name] if name in call.given else value for name, value in kept.items()}
        return Options(
            cas=call.args.get("cas") if "cas" in call.given else None,
            cas_required=flags["cas_required"],
            expiration=self._expiration(call, held.expiration if held is not None else 0.0),
            wildcards=flags["allow_wildcards_in_identity_templates"],
            slashes=flags["allow_slashes_in_identity_templates"],
        )

    def _expiration(self, call: Call, held: float) -> float:
        now = self._clock.now()
        if {"expiration", "ttl"} <= call.given:
            raise invalid("cannot supply both 'expiration' and 'ttl' for policies")
        if "ttl" in call.given:
            wanted = now + float(call.args["ttl"])
        elif "expiration" in call.given:
            wanted = _moment(call.args["expiration"])
        else:
            return held
        if wanted <= now:
            raise invalid("refusing to update policy as expiration time has already elapsed")
        return wanted

    def delete(self, call: Call) -> Change:
        def write(tx: Transaction) -> Result:
            self._service.delete(tx, call.args["name"], call.namespace)
            return Result()

        return Change(write)

    def of_token(self, call: Call) -> Result:
        token = call.args.get("token") or ""
        if not token:
            raise invalid("no token found")
        return self._capabilities(call, self._tokens.principal_of_token(token, call.namespace), "")

    def of_self(self, call: Call) -> Result:
        return self._capabilities(call, call.principal, call.peer)

    def of_accessor(self, call: Call) -> Result:
        accessor = call.args.get("accessor") or ""
        if not accessor:
            raise invalid("missing accessor")
        principal = self._tokens.principal_of_accessor(accessor, call.namespace)
        return self._capabilities(call, principal, "")

    def _capabilities(self, call: Call, principal: Principal, peer: str) -> Result:
        """`peer` is "" for a token that somebody else asks about: nobody knows where it will be used from."""
        paths = call.args.get("paths") or call.args.get("path") or []
        if not paths:
            raise invalid("paths must be supplied")
        if len(paths) > _MAX_PATHS:
            raise invalid(f"more than {_MAX_PATHS} paths; ask in several requests")
        if not all(paths):
            raise invalid("missing path")
        acl, context = self._service.acl_of(principal), self._service.context(principal, peer)
        below = call.namespace.path
        data: dict[str, list[str]] = {
            path: capabilities(acl, below + path.lstrip("/"), context) for path in paths
        }
        if len(paths) == 1:
            data["capabilities"] = data[paths[0]]
        return Result(data=data, items=len(paths))


def _moment(value: Any) -> float:
    try:
        return read_time(int(value) if isinstance(value, float) else value, "expiration")
    except ValueError:
        raise invalid(
            'Field validation failed: error converting input for field "expiration": could not parse string as'
            " date and time"
        ) from None


def _facts(row: PolicyRow) -> dict[str, object]:
    facts: dict[str, object] = {
        "allow_slashes_in_identity_templates": row.document.slashes,
        "allow_wildcards_in_identity_templates": row.document.wildcards,
        "cas_required": row.cas_required,
        "name": row.name,
        "version": row.version,
    }
    if row.version:
        facts["modified"] = rfc3339(row.modified)
    if row.expiration:
        facts["expiration"] = rfc3339(row.expiration)
    return facts
