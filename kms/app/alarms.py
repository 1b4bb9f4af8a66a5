"""Every use of a root token is told: a count for the monitoring, a line for the operator.

The audit log has each use anyway. A line a second and token at most, with how many uses it stands for, so that a
script that works as root does not bury the rest of the log.
"""

from __future__ import annotations

import threading

from kms.clock import Clock
from kms.metrics import Meter
from kms.operation import Call
from kms.oplog import OperatorLog

_TOKENS = 1_000


class RootAlarm:
    """One per process, safe to use from several threads."""

    def __init__(self, clock: Clock, log: OperatorLog, meter: Meter) -> None:
        self._clock = clock
        self._log = log
        self._meter = meter
        self._silent: dict[str, int] = {}  # token -> uses since its last line
        self._second = 0
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> None:
        """A root token is about to be used."""
        self._meter.root_used(call.operation.name)
        second = int(self._clock.monotonic())
        with self._lock:
            accessor = call.principal.accessor
            if second == self._second and (accessor in self._silent or len(self._silent) >= _TOKENS):
                self._silent[accessor] = self._silent.get(accessor, 0) + 1
                return
            rest = self._silent.pop(accessor, 0)
            if second != self._second:
                self._second = second
                self._silent = {held: uses for held, uses in self._silent.items() if uses}
            self._silent[accessor] = 0
        self._log.write(
            "warning",
            "root_token_used",
            accessor=accessor,
            operation=call.operation.name,
            path=call.path,
            peer=call.peer,
            request_id=call.request_id,
            uses=rest + 1,
        )


def root_alarm(clock: Clock, role: str, meter: Meter) -> RootAlarm:
    """The alarm of one process."""
    return RootAlarm(clock, OperatorLog(clock, role), meter)
