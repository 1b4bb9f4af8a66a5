"""The table of SP 800-57 states, cell by cell, and every transition between two states."""

from __future__ import annotations

from itertools import product

import pytest

from kms.keys.states import ALLOWED, Act, Leave, State, allows, destroyed, legal

# The table of the standard as we read it, written a second time and by another hand than the code:
# y = yes, r = with the risk accepted, . = no. Columns are the acts in this order.
ACTS = [
    Act.PROTECT,
    Act.PROCESS,
    Act.SIGN,
    Act.VERIFY,
    Act.AUTHENTICATE,
    Act.CHECK,
    Act.REWRAP,
    Act.AGREE,
    Act.CERTIFY,
    Act.EXPORT,
    Act.BACKUP,
    Act.ROTATE,
    Act.CONFIGURE,
    Act.PUBLISH,
    Act.DELETE,
]
TABLE = {
    State.PRE_ACTIVATION: ". . . . . . . . y y y y y y y",
    State.ACTIVE: "y y y y y y y y y y y y y y y",
    State.SUSPENDED: ". r . r . r . . . . . . y y y",
    State.DEACTIVATED: ". y . y . y . . . y y . y y y",
    State.COMPROMISED: ". r . r . r . . . . . . y y y",
    State.DESTROYED: ". . . . . . . . . . . . . y .",
    State.DESTROYED_COMPROMISED: ". . . . . . . . . . . . . y .",
}
CELLS = [
    (state, act, cell) for state, row in TABLE.items() for act, cell in zip(ACTS, row.split(), strict=True)
]
LEGAL = {
    State.PRE_ACTIVATION: {State.ACTIVE, State.COMPROMISED, State.DESTROYED},
    State.ACTIVE: {State.SUSPENDED, State.DEACTIVATED, State.COMPROMISED, State.DESTROYED},
    State.SUSPENDED: {State.ACTIVE, State.DEACTIVATED, State.COMPROMISED, State.DESTROYED},
    State.DEACTIVATED: {State.COMPROMISED, State.DESTROYED},
    State.COMPROMISED: {State.DESTROYED_COMPROMISED},
    State.DESTROYED: set(),
    State.DESTROYED_COMPROMISED: set(),
}


def test_the_table_has_a_cell_for_everything() -> None:
    assert {(state, act) for state, act, _ in CELLS} == set(product(State, Act))
    assert set(ALLOWED) == set(State)
    assert all(set(row) == set(Act) for row in ALLOWED.values())


@pytest.mark.parametrize(("state", "act", "cell"), CELLS)
def test_cell(state: State, act: Act, cell: str) -> None:
    assert ALLOWED[state][act] is {"y": Leave.YES, "r": Leave.RISK, ".": Leave.NO}[cell]
    assert allows(state, act) is (cell == "y")
    assert allows(state, act, accepted=True) is (cell in "yr")


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_transition(before: State, after: State) -> None:
    assert legal(before, after) is (after in LEGAL[before])


def test_only_an_active_key_protects() -> None:
    protecting = (Act.PROTECT, Act.SIGN, Act.AUTHENTICATE, Act.REWRAP, Act.AGREE)
    for state, act in product(State, protecting):
        assert allows(state, act, accepted=True) is (state is State.ACTIVE)


@pytest.mark.parametrize("state", list(State))
def test_a_destroyed_key_keeps_whether_it_was_compromised(state: State) -> None:
    compromised = state is State.COMPROMISED
    assert destroyed(state) is (State.DESTROYED_COMPROMISED if compromised else State.DESTROYED)
