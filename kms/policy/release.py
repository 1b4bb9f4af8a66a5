"""Requests that wait for the consent of others: what the road needs to know of them.

A request that needs consent is put away instead of carried out, and its caller gets a wrapping token. Unwrapping it,
once enough people have consented, takes the same request down the road again as a request of the same caller; the
first commit that this makes also uses up the token, so it happens once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kms.errors import KmsError
from kms.operation import Call, Change, External, Outcome, Result
from kms.policy.model import ControlGroup
from kms.policy.union import Decision
from kms.tables import Transaction

Claim = Callable[[Transaction], None]


@dataclass(frozen=True, slots=True)
class Demand:
    """Whose consent a request needs: each factor of each group that speaks of its capability."""

    groups: tuple[ControlGroup, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """A request that waited.

    Args:
        call: as it was made, and by whom; not decided on yet.
        facts: for the record: the consent that it has.
        settle: raises KmsError(DENIED) unless what is demanded now has been consented to.
        claim: uses up the wrapping token, in the first commit of the request.
    """

    call: Call
    facts: Mapping[str, Any]
    settle: Callable[[Demand | None], None]
    claim: Claim


class Consents(Protocol):
    """Who keeps the requests that wait."""

    def demanded(self, call: Call, decision: Decision) -> Demand | None:
        """Whose consent a request needs that may otherwise go on; None for nobody's."""
        ...

    def defer(self, tx: Transaction, call: Call, demand: Demand) -> Result:
        """Put the request away; what goes out instead."""
        ...

    def released(self, call: Call) -> Released | None:
        """The request that an unwrapping stands for; None when this is no such unwrapping.

        Raises:
            KmsError(DENIED): whoever made it could not make it now.
        """
        ...


class NoConsents:
    """Nothing waits for anybody."""

    def demanded(self, _call: Call, _decision: Decision) -> Demand | None:
        return None

    def defer(self, _tx: Transaction, _call: Call, _demand: Demand) -> Result:
        raise AssertionError("nothing is demanded")

    def released(self, _call: Call) -> Released | None:
        return None


def claimed(outcome: Outcome, claim: Claim) -> Change | External[Any]:
    """The same act, whose first commit uses up the consent."""
    if isinstance(outcome, Result):

        def write_nothing(tx: Transaction) -> Result:
            claim(tx)
            return outcome

        return Change(write_nothing)
    if isinstance(outcome, Change):

        def write(tx: Transaction) -> Result:
            claim(tx)
            return outcome.write(tx)

        return replace(outcome, write=write)
    begin, answer = outcome.begin, outcome.answer if outcome.begin is None else None

    def begun(tx: Transaction) -> None:
        claim(tx)
        if begin is not None:
            begin(tx)

    def conclude(tx: Transaction, done: Any) -> Result:
        return answer(done) if answer is not None else outcome.conclude(tx, done)

    def abandon(tx: Transaction, error: KmsError) -> None:
        if begin is not None:
            outcome.abandon(tx, error)

    return replace(outcome, begin=begun, conclude=conclude, abandon=abandon, answer=None)
