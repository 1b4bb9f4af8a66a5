"""The life of one key: its state, its dates, who answers for it. Pure functions over a struct.

A command changes the state; a date changes it too, from its very second: `state_at` is computed when
the key is used, and the jobs process writes the change down afterwards. What applies to the whole name
is the state; a version has a cryptoperiod of its own, counted from its birth, so that rotating renews
it, and versions that are known to be stolen can be named while newer ones go on.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from kms.clock import rfc3339
from kms.errors import KmsError, invalid
from kms.keys.states import Act, State, allows, legal

# A time that never comes: the last second of 9999, so that it sorts and prints like any other.
NEVER: Final = 253_402_300_799.0


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What `NamedKey.life` holds. Times are Unix seconds.

    Args:
        state: as it was last written; `state_at` knows better once a date has passed.
        since: when it was, 0 for "since the key was made".
        accepted: the risk of opening what a suspended or compromised key protected is accepted.
        created_by: who made the key; "" where that was not kept.
        activation: when a key that waits becomes active by itself; NEVER until somebody says so.
        deactivation: when the key is deactivated by itself, or NEVER.
        cryptoperiod: seconds for which a version may protect, 0 without bound.
        stolen: versions up to this one are compromised, 0 for none; `stolen_accepted` as `accepted`.
        changes: how many transitions are on record.
    """

    state: State = State.ACTIVE
    since: float = 0.0
    accepted: bool = False
    created_by: str = ""
    activation: float = 0.0
    deactivation: float = NEVER
    cryptoperiod: int = 0
    owner: str = ""
    contact: str = ""
    tags: dict[str, str] = {}
    stolen: int = 0
    stolen_accepted: bool = False
    changes: int = 0

    @property
    def plain(self) -> bool:
        """Active, with nothing in sight that would change that: needs no look at a clock."""
        return self.state is State.ACTIVE and self.deactivation == NEVER and not self.stolen

    @property
    def turn_at(self) -> float:
        """When a date changes the state next, or NEVER."""
        waiting = self.activation if self.state is State.PRE_ACTIVATION else NEVER
        ends = self.deactivation if self.state in (State.ACTIVE, State.SUSPENDED) else NEVER
        return min(waiting, ends)


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a key's history (SP 800-57: "the date and time of the transition shall be recorded").

    Args:
        by: who said so; "" for a date.
        versions: the newest version that it is about, 0 for the whole key.
        accepted: the risk of opening what the key protected was accepted with it.
    """

    at: float
    before: str
    after: str
    by: str
    reason: str
    versions: int = 0
    accepted: bool = False


class Command(StrEnum):
    """What somebody can tell a key to become."""

    ACTIVATE = "activate"
    SUSPEND = "suspend"
    RESUME = "resume"
    DEACTIVATE = "deactivate"
    COMPROMISE = "compromise"


_AFTER: Final = MappingProxyType(
    {
        Command.ACTIVATE: State.ACTIVE,
        Command.SUSPEND: State.SUSPENDED,
        Command.RESUME: State.ACTIVE,
        Command.DEACTIVATE: State.DEACTIVATED,
        Command.COMPROMISE: State.COMPROMISED,
    }
)
# Both lead to active, but say something else about where the key was.
_FROM: Final = MappingProxyType({Command.ACTIVATE: State.PRE_ACTIVATION, Command.RESUME: State.SUSPENDED})
NEED_REASON: Final = frozenset({Command.SUSPEND, Command.COMPROMISE})


def state_at(life: Life, now: float) -> State:
    """The state at a time, with every date that has passed by then."""
    state = life.state
    if state is State.PRE_ACTIVATION and life.activation <= now:
        state = State.ACTIVE
    if state in (State.ACTIVE, State.SUSPENDED) and life.deactivation <= now:
        state = State.DEACTIVATED
    return state


def turns(life: Life, now: float) -> list[tuple[State, float]]:
    """The states that dates have brought since the stored one, each with its time, in order."""
    found: list[tuple[State, float]] = []
    while life.turn_at <= now:
        at = life.turn_at
        state = State.ACTIVE if life.state is State.PRE_ACTIVATION else State.DEACTIVATED
        found.append((state, at))
        life = replace(life, state=state, since=at)
    return found


def check_act(name: str, life: Life, act: Act, now: float) -> None:
    """Refuse what the key's state does not allow.

    Raises:
        KmsError(INVALID): says the state, since when, and what to do.
    """
    if life.plain:
        return
    state = state_at(life, now)
    if not allows(state, act, accepted=life.accepted):
        raise _refusal(name, life, state, act)


def check_version(name: str, life: Life, act: Act, number: int, created: float, now: float) -> None:
    """Refuse what one version may not do though its key may: it is stolen, or its cryptoperiod is over.

    Raises:
        KmsError(INVALID)
    """
    if number <= life.stolen and not allows(State.COMPROMISED, act, accepted=life.stolen_accepted):
        raise invalid(
            f"version {number} of key {name} is compromised and may not {act.value}; "
            + (
                f"if the risk is acceptable, repeat keys/{name}/compromise with version={life.stolen} and "
                "accept_risk=true, and rewrap"
                if allows(State.COMPROMISED, act, accepted=True)
                else "use the newest version"
            )
        )
    ends = created + life.cryptoperiod
    if life.cryptoperiod and ends <= now and not allows(State.DEACTIVATED, act):
        raise invalid(
            f"the cryptoperiod of version {number} of key {name} ended on {rfc3339(ends)}: "
            f"it may not {act.value} any more; rotate the key with keys/{name}/rotate"
        )


def _refusal(name: str, life: Life, state: State, act: Act) -> KmsError:
    advice = {
        State.PRE_ACTIVATION: (
            f"it becomes active on {rfc3339(life.activation)}; keys/{name}/activate does it now"
            if life.activation < NEVER
            else f"activate it with keys/{name}/activate"
        ),
        State.SUSPENDED: f"resume it with keys/{name}/resume",
        State.DEACTIVATED: "it still decrypts and verifies; use another key for what is new",
        State.COMPROMISED: "use another key",
    }.get(state, "nothing brings it back")
    if state is State.DEACTIVATED and allows(state, act):
        advice = "use another key"
    if allows(state, act, accepted=True):
        verb = "suspend" if state is State.SUSPENDED else "compromise"
        advice += f", or accept the risk with keys/{name}/{verb} accept_risk=true"
    return invalid(f"key {name} is in state {state.value} and may not {act.value}: {advice}")


def obey(name: str, life: Life, command: Command, now: float) -> Life:
    """The life after a command that changes the state; dates that have passed count first.

    Raises:
        KmsError(INVALID): SP 800-57 has no such transition.
    """
    before, after = state_at(life, now), _AFTER[command]
    if not legal(before, after) or _FROM.get(command, before) is not before:
        raise invalid(f"key {name} is in state {before.value}: {command.value} does not lead on from there")
    activation = now if command is Command.ACTIVATE else life.activation
    return replace(life, state=after, since=now, accepted=False, activation=activation)


def shown(life: Life, created: float, now: float) -> dict[str, Any]:
    """The life as the key object shows it."""
    state = state_at(life, now)
    since = life.since or created
    for _, at in turns(life, now):
        since = at
    return {
        "state": state.value,
        "state_since": rfc3339(since),
        "risk_accepted": life.accepted,
        "activation_date": _date(life.activation),
        "deactivation_date": _date(life.deactivation),
        "cryptoperiod": life.cryptoperiod,
        "owner": life.owner,
        "contact": life.contact,
        "tags": life.tags,
        "compromised_version": life.stolen,
    }


def _date(seconds: float) -> str:
    return "" if seconds in (0.0, NEVER) else rfc3339(seconds)
