"""sys/policies/explain and its kin: why was this denied, who may do it, what may somebody do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from kms.errors import invalid
from kms.namespaces import scoped, unscoped
from kms.operation import (
    Call,
    Capability,
    Field,
    NamespaceRef,
    Operation,
    Principal,
    Record,
    Result,
    Type,
)
from kms.policy.auditor import EVIDENCE
from kms.policy.conditions import Context, read_time
from kms.policy.decide import Arguments
from kms.policy.explain import Asked, explain, grants, verdict
from kms.policy.names import canonical_names
from kms.policy.service import PolicyService

MAX_HOLDERS = 1_000


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who holds policies: a token or an entity."""

    kind: str
    id: str
    name: str
    principal: Principal


class Holders(Protocol):
    """Who there is. Policy itself knows neither tokens nor entities."""

    def principal_of_accessor(self, accessor: str, namespace: NamespaceRef) -> Principal:
        """Who the live token of a namespace with this accessor stands for. Raises KmsError(INVALID)."""
        ...

    def principal_of_entity(self, entity_id: str, namespace: NamespaceRef) -> Principal:
        """What an entity of a namespace may do by itself. Raises KmsError(INVALID)."""
        ...

    def everybody(self, namespace: NamespaceRef) -> Iterable[Holder]:
        """All live tokens and all entities of a namespace and of those below it."""
        ...


class Explainer:
    """The operations; they read, and decide with the function that decides."""

    def __init__(self, policies: PolicyService, holders: Holders) -> None:
        self._policies = policies
        self._holders = holders

    def of_others(self, call: Call) -> Result:
        """Why a token, an entity or a set of policies may do something, or may not."""
        principal, told = self._subject(call)
        return Result(data=self._explained(call, principal) | {"subject": told})

    def of_self(self, call: Call) -> Result:
        """The same of the caller."""
        return Result(data=self._explained(call, call.principal))

    def who(self, call: Call) -> Result:
        """Which policies would allow it alone, and who may do it now."""
        asked, here = _asked(call, self._context(call, Principal())), call.namespace
        names = self._policies.list(here)
        allowing = [
            name for name in names if verdict(self._policies.acl_for((scoped(here, name),)), asked).allowed
        ]
        holders: list[dict[str, str]] = []
        more = False
        for holder in self._holders.everybody(here):
            about = _asked(call, self._context(call, holder.principal))
            if not verdict(self._policies.acl_of(holder.principal), about).allowed:
                continue
            if len(holders) >= MAX_HOLDERS:
                more = True
                break
            holders.append({"kind": holder.kind, "id": holder.id, "name": holder.name})
        data = {"policies": allowing, "holders": holders, "more": more, "path": _place(call, asked.path)}
        return Result(data=data, items=len(holders))

    def grants(self, call: Call) -> Result:
        """Everything that a token, an entity or a set of policies may do."""
        principal, told = self._subject(call)
        granted = grants(self._policies.acl_of(principal), self._context(call, principal))
        shown = [one | {"policies": _names(call, one["policies"])} for one in granted]
        return Result(data={"grants": shown, "subject": told}, items=len(shown))

    def _explained(self, call: Call, principal: Principal) -> dict[str, Any]:
        told = explain(self._policies.acl_of(principal), _asked(call, self._context(call, principal)))
        rules = [rule | {"policy": _names(call, [rule["policy"]])[0]} for rule in told["rules"]]
        return told | {"path": _place(call, told["path"]), "rules": rules}

    def _subject(self, call: Call) -> tuple[Principal, dict[str, Any]]:
        given = {name for name in ("accessor", "entity_id", "policies") if call.args.get(name)}
        if len(given) != 1:
            raise invalid("name one of accessor, entity_id and policies; for yourself there is explain-self")
        name, value = given.pop(), None
        value = call.args[name]
        if name == "accessor":
            return self._holders.principal_of_accessor(value, call.namespace), {name: value}
        if name == "entity_id":
            return self._holders.principal_of_entity(value, call.namespace), {name: value}
        names = tuple(canonical_names(value))
        here = call.namespace
        keys = tuple(scoped(here, name) for name in names)
        root = "root" in names and not here.id
        return Principal(policies=keys, root=root, namespace=here), {name: list(names)}

    def _context(self, call: Call, principal: Principal) -> Context:
        """As it is now, but for what the caller wants supposed."""
        here = self._policies.context(principal, call.args.get("peer") or "")
        mfa = call.args["mfa"] if "mfa" in call.given else here.mfa
        moment = here.now
        if "time" in call.given:
            try:
                moment = read_time(call.args["time"], "time")
            except ValueError as error:
                raise invalid(str(error)) from None
        return Context(now=moment, peer=here.peer, mfa=mfa, tags=call.args.get("tags") or here.tags)

    def table(self) -> list[Operation]:
        """The operations."""
        clear = Record.CLEAR
        subject = (
            Field("accessor", record=Record.HMAC),
            Field("entity_id", record=clear),
            Field("policies", Type.STRINGS, record=clear),
        )
        supposed = (
            Field("peer", record=clear),
            Field("time", Type.ANY, record=clear),
            Field("mfa", Type.BOOL, record=clear),
            Field("tags", Type.MAP, record=clear),
        )
        request = (
            Field("path", record=clear, required=True),
            Field("capability", record=clear, required=True),
            Field("sudo", Type.BOOL, default=False, record=clear),
            Field("operation", record=clear),
            Field("parameters", Type.MAP),
            Field("wrap_ttl", Type.SECONDS, default=0, record=clear),
            *supposed,
        )
        update = Capability.UPDATE
        return [
            Operation("policy.explain", update, self.of_others, fields=(*request, *subject)),
            Operation("policy.explain_self", update, self.of_self, fields=request),
            Operation("policy.who", update, self.who, fields=request),
            Operation("policy.grants", update, self.grants, fields=(*subject, *supposed)),
        ]


def _place(call: Call, path: str) -> str:
    """A full path as it is called where it was asked about."""
    return path[len(call.namespace.path) :]


def _names(call: Call, keys: Iterable[str]) -> list[str]:
    """Policies as they are called where they were asked about; those of another namespace keep its ID."""
    named = [(unscoped(key), key) for key in keys]
    return [name if owner == call.namespace.id else key for (owner, name), key in named]


def _asked(call: Call, context: Context) -> Asked:
    args = call.args
    try:
        capability = Capability(args["capability"])
    except ValueError:
        names = ", ".join(one.value for one in Capability)
        raise invalid(f"capability must be one of {names}; sudo=true asks for sudo as well") from None
    return Asked(
        path=call.namespace.path + str(args["path"]).removeprefix("/"),
        capability=capability,
        sudo=bool(args.get("sudo")),
        evidence=args.get("operation") in EVIDENCE,
        arguments=Arguments(extra=args.get("parameters") or {}, wrap_ttl=args.get("wrap_ttl") or 0),
        context=context,
    )
