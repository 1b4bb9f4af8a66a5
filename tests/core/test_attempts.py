"""Attempts of custodians: whose place another may take, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kms.errors import KmsError
from kms.system.quorum import LAPSE_SECONDS, Attempt, Attempts
from tests.identity.wire import FakeClock


class Slot:
    def __init__(self) -> None:
        self.value = b""


class Page:
    """One slot, without the memory that processes share."""

    def __init__(self) -> None:
        self.slot = Slot()

    @contextmanager
    def edit(self, _name: str) -> Iterator[Slot]:
        yield self.slot

    def read(self, _name: str) -> bytes:
        return self.slot.value


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_what_a_stranger_began_does_not_stand_in_the_way_for_ever(clock: FakeClock) -> None:
    attempts = Attempts(Page(), "rekey", "rekey", clock)
    strangers = attempts.start(Attempt(shares=[b"junk"])).nonce
    clock.time += LAPSE_SECONDS
    with pytest.raises(KmsError, match="already in progress"):
        attempts.start(Attempt())
    clock.time += 1
    ours = attempts.start(Attempt())
    assert attempts.current() == ours
    with pytest.raises(KmsError, match="incorrect nonce"), attempts.change(strangers):
        pass
    with pytest.raises(KmsError, match="give the nonce"):
        attempts.cancel_by_nonce(strangers)
    attempts.cancel_by_nonce(ours.nonce)
    assert attempts.current() is None


def test_new_shares_that_wait_for_their_verification_wait_as_long_as_it_takes(clock: FakeClock) -> None:
    attempts = Attempts(Page(), "rekey", "rekey", clock)
    pending = attempts.start(Attempt(secret=b"new", verify_nonce="v"))
    clock.time += 100 * LAPSE_SECONDS
    with pytest.raises(KmsError, match="already in progress"):
        attempts.start(Attempt())
    attempts.demand("v", verifying=True)
    for wrong in ("", pending.nonce):
        with pytest.raises(KmsError, match="give the nonce"):
            attempts.demand(wrong, verifying=True)
