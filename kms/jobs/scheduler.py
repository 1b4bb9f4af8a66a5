"""A small scheduler: named tasks, each at its interval, in one thread.

One thread because the tasks share one database connection and one HSM login, and because order is
easier to reason about than speed here. A slow task delays the others; each run over a second is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kms.clock import Clock
from kms.errors import KmsError
from kms.oplog import Contained, OperatorLog

SLOW_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
IDLE_SECONDS = 0.1


@dataclass(frozen=True)
class Task:
    """Something to do again and again.

    Args:
        name: stable, for the log ("audit.sequence").
        every_seconds: from the start of one run to the start of the next.
        run: does it; KmsError is an expected failure (the HSM is away), anything else a defect. Both are
            logged, and the interval doubles up to a minute until a run succeeds.
        at_stop: run once more at a clean stop (final frames and checkpoint).
        due: whether there is anything to do; asked first, and where not, the last run's failure stands.
    """

    name: str
    every_seconds: float
    run: Callable[[], object]
    at_stop: bool = False
    due: Callable[[], bool] = lambda: True


@dataclass
class _Entry:
    task: Task
    due: float
    failures: int = 0


class Scheduler:
    """Runs tasks until told to stop.

    Args:
        wanted: asked between runs; False ends `run`.
        wait: sleeps up to the given seconds; the jobs process wakes from it on a signal.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        clock: Clock,
        log: OperatorLog,
        *,
        wanted: Callable[[], bool],
        wait: Callable[[float], None],
    ) -> None:
        now = clock.monotonic()
        self._entries = [_Entry(task, now) for task in tasks]
        self._clock = clock
        self._log = log
        self._wanted = wanted
        self._wait = wait

    def run(self) -> None:
        """Until `wanted` says no; then the tasks with `at_stop` once more, in their order."""
        while self._wanted():
            self.turn()
            self._wait(self._pause())
        for entry in self._entries:
            if entry.task.at_stop:
                self._attempt(entry)

    def turn(self) -> None:
        """Run what is due now."""
        for entry in self._entries:
            if not self._wanted():
                return
            if entry.due <= (now := self._clock.monotonic()):
                if entry.task.due():
                    self._attempt(entry)
                else:
                    entry.due = now + entry.task.every_seconds

    def _pause(self) -> float:
        soonest = min((entry.due for entry in self._entries), default=0.0) - self._clock.monotonic()
        return max(0.0, min(soonest, IDLE_SECONDS)) if self._entries else IDLE_SECONDS

    def _attempt(self, entry: _Entry) -> None:
        task, began = entry.task, self._clock.monotonic()
        failed = False
        with Contained(self._log, "task_crashed", task=task.name) as contained:
            try:
                task.run()
            except KmsError as error:
                failed = True
                if entry.failures == 0:
                    self._log.failure("task_failed", error, task=task.name)
        failed = failed or contained.failure is not None
        if entry.failures and not failed:
            self._log.write("info", "task_recovered", task=task.name, failures=entry.failures)
        entry.failures = entry.failures + 1 if failed else 0
        took = self._clock.monotonic() - began
        if took > SLOW_SECONDS:
            self._log.write("warning", "task_slow", task=task.name, seconds=round(took, 3))
        pause = task.every_seconds
        if entry.failures:
            pause = max(pause, min(pause * 2.0 ** min(entry.failures, 16), MAX_BACKOFF_SECONDS))
        entry.due = began + pause
