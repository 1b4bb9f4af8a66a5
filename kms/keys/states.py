"""The states of a key and what each of them allows: NIST SP 800-57 part 1 rev. 5, section 7, as one table.

Pure data: no key, no clock. A state says nothing of purposes; what a key of this type can do at all
is the catalogue's table, and both must allow an act. Suspension and compromise hit both halves of a
pair, so verification is an act like any other.

    pre-activation   made, and not to be used yet; its public half may be certified, and it may be
                     carried to where it will be used
    active           everything
    suspended        nothing new is protected; what was protected is opened only if somebody accepted
                     the risk. (Nothing is protected here during suspension, so the rule about data
                     from that time has no case.)
    deactivated      nothing new is protected; what was protected is still opened and verified
    compromised      as suspended, and there is no way back
    destroyed        nothing; the record of it stays. It keeps whether it was compromised before.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class State(StrEnum):
    """Where a key stands."""

    PRE_ACTIVATION = "pre-activation"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DEACTIVATED = "deactivated"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"
    DESTROYED_COMPROMISED = "destroyed-compromised"


class Act(StrEnum):
    """What somebody may want of a key."""

    PROTECT = "encrypt"  # and wrap, encapsulate, make data keys
    PROCESS = "decrypt"  # and unwrap, decapsulate
    SIGN = "sign"
    VERIFY = "verify"
    AUTHENTICATE = "make HMACs or CMACs"
    CHECK = "verify HMACs or CMACs"
    REWRAP = "rewrap"  # opens with an old version, protects with the newest
    AGREE = "agree on keys"
    CERTIFY = "prove possession"  # sign its own certificate request
    EXPORT = "be exported"  # its secret half
    BACKUP = "be backed up"
    ROTATE = "get new versions"
    CONFIGURE = "be configured"
    PUBLISH = "be read"  # metadata and public halves
    DELETE = "be deleted"  # that is, be scheduled for destruction


class Leave(StrEnum):
    """A cell of the table."""

    YES = "yes"
    RISK = "risk"  # only where somebody accepted the risk, on record
    NO = "no"


_OPENING: Final = (Act.PROCESS, Act.VERIFY, Act.CHECK)
_KEEPING: Final = (Act.CONFIGURE, Act.PUBLISH, Act.DELETE)


def _row(*allowed: Act, risk: tuple[Act, ...] = ()) -> MappingProxyType[Act, Leave]:
    row = dict.fromkeys(Act, Leave.NO) | dict.fromkeys(allowed, Leave.YES) | dict.fromkeys(risk, Leave.RISK)
    return MappingProxyType(row)


ALLOWED: Final[MappingProxyType[State, MappingProxyType[Act, Leave]]] = MappingProxyType(
    {
        # Distribution before activation is what section 8.1.5 describes; proof of possession is the
        # one use that section 7.1 leaves open.
        State.PRE_ACTIVATION: _row(Act.CERTIFY, Act.EXPORT, Act.BACKUP, Act.ROTATE, *_KEEPING),
        State.ACTIVE: _row(*Act),
        # An export or a backup would carry the key past its own suspension.
        State.SUSPENDED: _row(*_KEEPING, risk=_OPENING),
        State.DEACTIVATED: _row(*_OPENING, Act.EXPORT, Act.BACKUP, *_KEEPING),
        State.COMPROMISED: _row(*_KEEPING, risk=_OPENING),
        State.DESTROYED: _row(Act.PUBLISH),
        State.DESTROYED_COMPROMISED: _row(Act.PUBLISH),
    }
)

TRANSITIONS: Final[MappingProxyType[State, frozenset[State]]] = MappingProxyType(
    {
        State.PRE_ACTIVATION: frozenset({State.ACTIVE, State.COMPROMISED, State.DESTROYED}),
        State.ACTIVE: frozenset({State.SUSPENDED, State.DEACTIVATED, State.COMPROMISED, State.DESTROYED}),
        State.SUSPENDED: frozenset({State.ACTIVE, State.DEACTIVATED, State.COMPROMISED, State.DESTROYED}),
        State.DEACTIVATED: frozenset({State.COMPROMISED, State.DESTROYED}),
        State.COMPROMISED: frozenset({State.DESTROYED_COMPROMISED}),
        State.DESTROYED: frozenset(),
        State.DESTROYED_COMPROMISED: frozenset(),
    }
)


def allows(state: State, act: Act, *, accepted: bool = False) -> bool:
    """Whether a key in this state may do this.

    Args:
        state: of the key.
        act: what is wanted.
        accepted: somebody accepted the risk of opening what the key protected.
    """
    leave = ALLOWED[state][act]
    return leave is Leave.YES or (leave is Leave.RISK and accepted)


def legal(before: State, after: State) -> bool:
    """Whether a key may go from one state to the other."""
    return after in TRANSITIONS[before]


def destroyed(before: State) -> State:
    """The state of a key whose material was destroyed."""
    return State.DESTROYED_COMPROMISED if before is State.COMPROMISED else State.DESTROYED
