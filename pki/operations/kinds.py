"""How the CA's operations of each effect are declared."""

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
)
from pki.fields import LIST_FIELDS

Facts = Mapping[str, str | int]
Resolve = Callable[[Facts], External[Any] | None]


def external(
    name: str,
    act: Callable[[Call], Any],
    resolve: Resolve,
    fields: tuple[Field, ...] = (),
    runs: Runs = Runs.POOL,
    *,
    sudo: bool = False,
) -> Operation:
    """Something outside the database happens: a key, a signature."""
    return Operation(
        f"pki.{name}",
        Capability.UPDATE,
        act,
        effect=Effect.EXTERNAL,
        runs=runs,
        resolve=resolve,
        fields=fields,
        sudo=sudo,
    )


def state(name: str, act: Callable[[Call], Any], fields: tuple[Field, ...] = ()) -> Operation:
    """A change of rows."""
    return Operation(f"pki.{name}", Capability.UPDATE, act, effect=Effect.STATE, fields=fields)


def read(name: str, act: Callable[[Call], Result], fields: tuple[Field, ...] = ()) -> Operation:
    """No effect."""
    return Operation(f"pki.{name}", Capability.READ, act, fields=fields)


def listing(name: str, act: Callable[[Call], Result]) -> Operation:
    """A LIST with paging."""
    return Operation(f"pki.{name}", Capability.LIST, act, fields=LIST_FIELDS)


def document(
    name: str,
    act: Callable[[Call], Result],
    fields: tuple[Field, ...] = (),
    needs: Needs = Needs.NOTHING,
) -> Operation:
    """Answered to anybody, and counted."""
    return Operation(
        f"pki.{name}",
        Capability.READ,
        act,
        caller=Caller.PUBLIC,
        evidence=Evidence.COUNTED,
        needs=needs,
        fields=fields,
    )


def nothing_happened(intent: Facts) -> External[None]:
    """An import that died left no state behind; its CRL was never published."""
    return External(
        intent,
        lambda _: None,
        lambda: None,
        lambda _tx, _done: Result(subject=intent, partial=True),
        lambda _tx, _error: None,
    )
