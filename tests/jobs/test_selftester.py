"""The periodic self-test: a wrong answer refuses requests in every process, a right one lets them in again."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kms.errors import ErrorKind, KmsError
from kms.hsm import SelfTestError
from kms.jobs.selftester import AGAIN_SECONDS, EVERY_SECONDS, SelfTester
from kms.system.state import ServerState
from tests.pki.bench import StepClock


class Token:
    """An HSM whose self-test does what it is told."""

    def __init__(self) -> None:
        self.failure: KmsError | None = None
        self.tests = 0

    def self_test(self) -> list[str]:
        self.tests += 1
        if self.failure is not None:
            raise self.failure
        return []


class State:
    """What the tester says about the server."""

    opened = True
    trusted = True

    def distrust(self) -> None:
        self.trusted = False

    def trust(self) -> None:
        self.trusted = True


def test_a_wrong_answer_counts_and_is_asked_again_soon() -> None:
    token, state, clock = Token(), State(), StepClock()
    tester = SelfTester(lambda: cast("Any", token), cast("ServerState", state), clock)
    assert tester.due()
    tester.step()
    assert (state.trusted, tester.due()) == (True, False)
    clock.sleep(EVERY_SECONDS)
    assert tester.due()
    # A token that is away has answered nothing, wrong or right.
    token.failure = KmsError(ErrorKind.HSM_UNAVAILABLE, "away")
    with pytest.raises(KmsError, match="away"):
        tester.step()
    assert (state.trusted, tester.due()) == (True, False)
    clock.sleep(EVERY_SECONDS)
    token.failure = SelfTestError("HMAC differs")
    with pytest.raises(SelfTestError, match="self-test failed: HMAC differs"):
        tester.step()
    assert (state.trusted, tester.due()) == (False, False)
    clock.sleep(AGAIN_SECONDS)
    assert tester.due()
    token.failure = None
    tester.step()
    assert (state.trusted, token.tests) == (True, 4)
    state.opened = False
    clock.sleep(EVERY_SECONDS)
    assert not tester.due()
