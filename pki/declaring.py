"""How operations of each effect are declared, in the tables of every engine here.

    PKI = Kinds("pki")
    PKI.read("role-read", roles.read, fields)          Operation pki.role-read

What else an operation may be is said in `kms.operation`; it refuses what does not go together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    Outcome,
    Result,
    Runs,
)
from pki.fields import LIST_FIELDS

Facts = Mapping[str, str | int]
Fields = tuple[Field, ...]
Resolve = Callable[[Facts], External[Any] | None]
Act = Callable[[Call], Outcome]


@dataclass(frozen=True)
class Kinds:
    """The kinds of operations of one engine, whose names begin with `engine`."""

    engine: str

    def external(
        self,
        name: str,
        act: Act,
        resolve: Resolve,
        fields: Fields = (),
        runs: Runs = Runs.POOL,
        *,
        sudo: bool = False,
        caller: Caller = Caller.TOKEN,
    ) -> Operation:
        """Something outside the database happens: a key, a signature. `resolve` ends what died on the way."""
        return Operation(
            f"{self.engine}.{name}",
            Capability.UPDATE,
            act,
            effect=Effect.EXTERNAL,
            caller=caller,
            runs=runs,
            resolve=resolve,
            fields=fields,
            sudo=sudo,
        )

    def state(
        self, name: str, act: Act, fields: Fields = (), capability: Capability = Capability.UPDATE
    ) -> Operation:
        """A change of rows."""
        return Operation(f"{self.engine}.{name}", capability, act, effect=Effect.STATE, fields=fields)

    def delete(self, name: str, act: Act, fields: Fields = ()) -> Operation:
        """A change of rows that takes some away."""
        return self.state(name, act, fields, Capability.DELETE)

    def read(self, name: str, act: Callable[[Call], Result], fields: Fields = ()) -> Operation:
        """No effect."""
        return Operation(f"{self.engine}.{name}", Capability.READ, act, fields=fields)

    def listing(self, name: str, act: Callable[[Call], Result]) -> Operation:
        """A LIST with paging."""
        return Operation(f"{self.engine}.{name}", Capability.LIST, act, fields=LIST_FIELDS)

    def document(
        self,
        name: str,
        act: Callable[[Call], Result],
        fields: Fields = (),
        needs: Needs = Needs.UNSEALED,
        runs: Runs = Runs.POOL,
    ) -> Operation:
        """Answered to anybody, and counted."""
        return Operation(
            f"{self.engine}.{name}",
            Capability.READ,
            act,
            caller=Caller.PUBLIC,
            evidence=Evidence.COUNTED,
            needs=needs,
            runs=runs,
            fields=fields,
        )
