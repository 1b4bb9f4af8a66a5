"""gunicorn under our settings: how the arbiter and its workers are set up."""

# mypy: allow-untyped-calls
# gunicorn has no types.

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from kms import metrics
from kms.clock import SystemClock
from kms.config import Config
from kms.http.asgi import Asgi, Served
from kms.http.chains import ClientChains
from kms.http.signin import SignIn
from kms.http.vault.door import Door
from kms.oplog import OperatorLog
from kms.server import hardening, placing
from kms.server.logs import GunicornLog
from kms.server.parts import Builder
from kms.server.tls import requesting_context, server_context
from kms.server.worker import Worker
from kms.shared import Shared

MAX_LINE_BYTES = 4094
MAX_FIELDS = 100
MAX_FIELD_BYTES = 8190
KEEPALIVE_SECONDS = 75


class _Arbiter(Arbiter):
    """Without the signals that would start a second server from our command line or resize this one."""

    SIGNALS = [  # noqa: RUF012  (the base class declares it this way)
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGUSR1,
    ]


class Application(BaseApplication):
    """The web half of the server.

    Args:
        listeners: open, listening sockets, the API's first; their numbers are handed to gunicorn, which then owns
            them.
    """

    def __init__(self, config: Config, shared: Shared, build: Builder, listeners: Sequence[int]) -> None:
        self.config = config
        self.shared = shared
        self._listeners = listeners
        self.cfg: Any = None
        self.asgi = Asgi(partial(_boot, config, shared, build), _failed)
        super().__init__()

    def load_config(self) -> None:
        """Settings; everything that is not named here keeps its strict default."""
        for name, value in _settings(self.config, self._listeners).items():
            self.cfg.set(name, value)

    def load(self) -> Asgi:
        """The ASGI callable."""
        return self.asgi

    def run(self) -> None:
        """Run the arbiter; leaves by SystemExit."""
        _Arbiter(self).run()


def _settings(config: Config, listeners: Sequence[int]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "bind": [f"fd://{listener}" for listener in listeners],
        "workers": config.workers,
        "worker_class": Worker,
        "worker_connections": config.limits.connections,
        "timeout": config.limits.request_seconds,
        "graceful_timeout": config.limits.stop_seconds,
        "keepalive": KEEPALIVE_SECONDS,
        "asgi_loop": "asyncio",
        "asgi_lifespan": "on",
        "asgi_disconnect_grace_period": config.limits.stop_seconds,
        "limit_request_line": MAX_LINE_BYTES,
        "limit_request_fields": MAX_FIELDS,
        "limit_request_field_size": MAX_FIELD_BYTES,
        "forwarded_allow_ips": "",  # the peer is the peer: X-Forwarded-* of nobody is believed (T-59d)
        "header_map": "drop",
        "control_socket_disable": True,
        "umask": hardening.UMASK,
        "logger_class": GunicornLog,
        "proc_name": "keystead",
        "pre_fork": _pre_fork,
        "post_fork": _post_fork,
        "child_exit": _child_exit,
    }
    if os.access("/dev/shm", os.W_OK):  # noqa: S108  (a heartbeat file without a name; on disk, utime may stall)
        settings["worker_tmp_dir"] = "/dev/shm"  # noqa: S108  (see above)
    if config.tls is not None:
        settings["certfile"] = str(config.tls.certificate)
        settings["keyfile"] = str(config.tls.key)
        asks = config.tls.client_certificates == "request"
        settings["ssl_context"] = requesting_context if asks else server_context
    return settings


def _pre_fork(arbiter: Any, worker: Any) -> None:
    # In the arbiter, which forks one worker after the other and knows who lives.
    worker.processor = placing.free(
        arbiter.app.config.workers, [other.processor for other in arbiter.WORKERS.values()]
    )


def _post_fork(_arbiter: object, worker: Any) -> None:
    placing.stay(worker.processor)
    hardening.die_with(worker.ppid)
    hardening.undumpable()


def _child_exit(arbiter: Any, worker: Any) -> None:
    # In the arbiter: a worker that was killed could not say goodbye itself.
    arbiter.app.shared.withdraw(worker.pid)
    metrics.forget_process(worker.pid)


def _boot(config: Config, shared: Shared, build: Builder) -> Served:
    app = build(config, shared, SystemClock(), "worker")
    door = Door(
        app,
        OperatorLog(role="worker"),
        chains=ClientChains(config.proxy),
        well_known=app.well_known,
        inflight=shared.inflight,
        devices=app.devices,
    )
    sign_in = SignIn(door, app.page_key, SystemClock())
    return Served(door, app.close, app.leaving, app.cross_origin, sign_in)


def _failed(error: BaseException) -> None:
    OperatorLog(role="worker").failure("worker_cannot_start", error)
