"""The periodic self-test (FIPS 140-3, 10.3.F; T-01): a wrong answer stops all of the server at once, until one is right."""

from __future__ import annotations

from collections.abc import Callable

from kms.clock import Clock
from kms.hsm import Hsm, SelfTestError
from kms.system.state import ServerState

EVERY_SECONDS = 600.0
AGAIN_SECONDS = 10.0  # after a wrong answer: nothing is served meanwhile


class SelfTester:
    """Runs in the jobs process; what it finds counts in every process.

    Args:
        hsm: the open HSM.
        state: what refuses requests.
    """

    def __init__(self, hsm: Callable[[], Hsm], state: ServerState, clock: Clock) -> None:
        self._hsm = hsm
        self._state = state
        self._clock = clock
        self._due_at = 0.0

    def due(self) -> bool:
        """Whether a test is due."""
        return self._state.opened and self._clock.monotonic() >= self._due_at

    def step(self) -> None:
        """Test once.

        Raises:
            SelfTestError: an answer is wrong; requests are refused from now on.
            KmsError(HSM_UNAVAILABLE): the token is away, which says nothing about its answers.
        """
        self._due_at = self._clock.monotonic() + EVERY_SECONDS
        try:
            self._hsm().self_test()
        except SelfTestError:
            self._due_at = self._clock.monotonic() + AGAIN_SECONDS
            self._state.distrust()
            raise
        self._state.trust()
