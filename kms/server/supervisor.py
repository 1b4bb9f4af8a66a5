"""The first process: holds what the server must not lose, and keeps the others alive.

    (1) harden; private folders; the lock; the listening socket; the shared page; the metrics folder
    (2) the start process: migrations, recovery; alone, and finished before anybody else begins
    (3) arbiter and jobs; one that dies is replaced at once, and with a growing pause when the next dies young as well
    (4) ready, when all workers serve and sys/health answers
    (5) at SIGTERM or SIGINT: no new connections, workers finish, then jobs (last frames and checkpoint)

It opens neither the HSM nor the database, so nothing of them ever crosses a fork.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from kms import metrics
from kms.clock import Clock
from kms.config import Config, check_files, split_address
from kms.errors import KmsError, invalid
from kms.oplog import THRESHOLDS, OperatorLog
from kms.recent import RECENT
from kms.server import children, hardening, lock
from kms.server.background import run_jobs
from kms.server.offline import Work, run_offline
from kms.server.parts import Builder
from kms.server.probe import answers
from kms.server.web import Application
from kms.shared import Shared
from kms.tlsfiles import check_tls

JOBS_STOP_SECONDS = 15.0
KILL_MARGIN_SECONDS = 5.0
MAX_PAUSE_SECONDS = 30.0
STABLE_SECONDS = 10.0
BACKLOG = 2048
_TURN_SECONDS = 0.25
_STARTING_TURN_SECONDS = 0.03


@dataclass(slots=True)
class _Child:
    """A process that is to be running."""

    name: str
    main: Callable[[], int]
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """Runs one server.

    Args:
        build: `kms.app.build`, called in each child.
        ready: called once, when the server answers.
    """

    def __init__(
        self, config: Config, build: Builder, clock: Clock, *, ready: Callable[[], None] = lambda: None
    ) -> None:
        self._config = config
        self._build = build
        self._clock = clock
        self._ready = ready
        self._log = OperatorLog(clock, role="supervisor")
        self._shared = Shared()
        THRESHOLDS.share()
        RECENT.share()
        self._listener: socket.socket | None = None
        self._documents: socket.socket | None = None
        self._web = _Child("web", self._run_web)
        self._jobs = _Child("jobs", self._run_jobs)
        self._was_ready = False
        self._reloads = 0

    def run(self, work: Work | None = None, report: Callable[[object], None] = lambda _value: None) -> int:
        """Start, serve, stop. Returns the exit code: 0 after a clean stop, 1 otherwise.

        Args:
            work: done by the start process, before anybody serves (init of `keystead dev`).
            report: told what the work returned.

        Raises:
            KmsError: the server cannot start; the sentence says why and what to do.
        """
        check_files(self._config)
        hardening.harden()
        for folder in (self._config.data.storage, self._config.data.audit):
            lock.make_private(folder)
        held = lock.hold(self._config.data.storage, self._clock)
        folder = metrics.make_folder()
        try:
            self._listener = listen(self._config.listen)
            if self._config.documents is not None:
                self._documents = listen(self._config.documents.listen)
            report(run_offline(self._config, self._shared, self._build, self._clock, work))
            return self._serve()
        finally:
            metrics.remove_folder(folder)
            os.close(held)

    def _serve(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, children.SIGNALS)
        for child in (self._web, self._jobs):
            self._start(child)
        while True:
            pause = _TURN_SECONDS if self._was_ready else _STARTING_TURN_SECONDS
            received = signal.sigtimedwait(children.SIGNALS, pause)
            number = received.si_signo if received is not None else 0
            if number in (signal.SIGTERM, signal.SIGINT):
                return self._stop()
            if self._reload_wanted(number):
                self._reload()
            for ended in children.reap():
                self._ended(ended)
            if not self._was_ready and not self._web.pid:
                self._stop()
                return 1
            for child in (self._web, self._jobs):
                if not child.pid and child.due <= self._clock.monotonic():
                    self._start(child)
            self._look()

    def _reload_wanted(self, number: int) -> bool:
        asked, before = self._shared.reloads(), self._reloads
        self._reloads = asked
        return number == signal.SIGHUP or asked != before

    def _reload(self) -> None:
        if not self._web.pid:
            return  # the next one reads everything anyway
        try:
            check_tls(self._config)
        except KmsError as error:
            # New workers could not start with these files; the old ones serve on.
            self._log.failure("reload_refused", error)
            return
        self._log.write("info", "reload")
        os.kill(self._web.pid, signal.SIGHUP)

    def _look(self) -> None:
        if self._was_ready or len(self._shared.serving()) < self._config.workers:
            return
        if answers(self._config):
            self._was_ready = True
            self._ready()

    def _start(self, child: _Child) -> None:
        child.started = self._clock.monotonic()
        child.pid = children.fork(child.name, child.main)

    def _run_web(self) -> int:
        if self._listener is None:
            return children.FAILED
        # gunicorn owns these copies from here on.
        descriptors = [one.detach() for one in (self._listener, self._documents) if one is not None]
        Application(self._config, self._shared, self._build, descriptors).run()
        return 0

    def _run_jobs(self) -> int:
        self._close()
        return run_jobs(self._config, self._shared, self._build)

    def _close(self) -> None:
        for one in (self._listener, self._documents):
            if one is not None:
                one.close()

    def _ended(self, ended: children.Ended) -> None:
        for child in (self._web, self._jobs):
            if child.pid != ended.pid:
                continue
            lived = self._clock.monotonic() - child.started
            child.failures = 1 if lived > STABLE_SECONDS else child.failures + 1
            # One that ended as it should (a seal), or lived and was killed, has nothing that a pause would mend.
            sound = ended.code == 0 or child.failures == 1
            pause = 0.0 if sound else min(2.0 ** (child.failures - 2), MAX_PAUSE_SECONDS)
            child.due = self._clock.monotonic() + pause
            child.pid = 0
            if ended.code != 0:
                self._log.write("error", "process_ended", name=child.name, code=ended.code, again_in=pause)

    def _stop(self) -> int:
        self._close()
        clean = True
        patience = self._config.limits.stop_seconds + KILL_MARGIN_SECONDS
        for child, seconds in ((self._web, patience), (self._jobs, JOBS_STOP_SECONDS)):
            if child.pid:
                ended = children.end(child.pid, self._clock, seconds)
                clean = clean and (ended is None or ended.code == 0)
        return 0 if clean else 1


def listen(address: str) -> socket.socket:
    """A listening socket; it outlives restarts of the arbiter, so clients wait instead of failing.

    Raises:
        KmsError(INVALID): the address is taken or not ours.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(address, error) from None
    return listener


def _cannot_listen(address: str, error: OSError) -> KmsError:
    return invalid(f"cannot listen on {address}: {error.strerror}; choose another with --listen or `listen`")
