"""The jobs process: an App of its own and the scheduler over its tasks."""

from __future__ import annotations

import signal

from kms.clock import SystemClock
from kms.config import Config
from kms.jobs.scheduler import Scheduler
from kms.oplog import OperatorLog
from kms.server.parts import Builder
from kms.shared import Shared

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})


def run_jobs(config: Config, shared: Shared, build: Builder) -> int:
    """Until SIGTERM, or until the App says that it must be left. Returns the exit code.

    The signals stay blocked and are collected between tasks, so none ends a task in the middle.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    clock = SystemClock()
    log = OperatorLog(clock, role="jobs")
    app = build(config, shared, clock, "jobs")
    stopped = False

    def wait(seconds: float) -> None:
        nonlocal stopped
        if signal.sigtimedwait(_STOP, seconds) is not None:
            stopped = True

    def wanted() -> bool:
        if not stopped:
            wait(0)
        return not stopped and not app.leaving()

    try:
        Scheduler(app.tasks, clock, log, wanted=wanted, wait=wait).run()
    finally:
        app.close()
    return 0
