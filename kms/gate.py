"""What the road asks of the server around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from kms.operation import Call, Operation
from kms.tables import Transaction


class Gate(Protocol):
    """Whether the server is in a state to serve this operation at all."""

    def admit(self, operation: Operation) -> None:
        """Raise KmsError(SEALED, UNINITIALIZED, HSM_UNAVAILABLE) or return."""
        ...

    def admit_change(self, operation: Operation) -> None:
        """Raise KmsError(AUDIT_UNAVAILABLE) while the log is too far behind to take a change."""
        ...

    def enter(self, call: Call) -> None:
        """Raise KmsError unless what a call in a namespace is for may be done there now; asked for no other call."""
        ...

    def stay(self, tx: Transaction, call: Call) -> None:
        """Raise KmsError unless the namespace of a call is still there, in the commit of what the call changes."""
        ...

    def count(self, call: Call) -> None:
        """Count a call against the limits of its caller. Raise KmsError(RATE_LIMITED) or return."""
        ...


class Meter(Protocol):
    """Where counts and durations go."""

    def observe(self, operation: str, outcome: str, seconds: float) -> None:
        """One finished request."""
        ...


def looked_at(call: Call) -> Call:
    """The call as policy sees it: what concerns a token, or a lease, is decided on where that one belongs."""
    here = call.principal.namespace if call.operation.of_itself else call.namespace
    if here is call.namespace and call.operation.belongs is None:
        return call
    if call.operation.belongs is not None:
        here = call.operation.belongs(call)
    if here == call.namespace:
        return call
    return replace(call, path=here.path + call.place, namespace=here)
