"""One piece of work on an `App` without a server: in a child, so that the parent never opens the HSM.

The supervisor uses it once before all others (role "start": migrations, recovery of the audit log and
of unfinished intents), `keystead init` and `keystead dev` also to call operations through the door.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from kms.clock import Clock
from kms.config import Config
from kms.errors import ErrorKind, KmsError
from kms.server import children
from kms.server.parts import Builder, ServerApp
from kms.shared import Shared

Work = Callable[[ServerApp], Any]
"""Returns what goes back to the parent: plain JSON types."""


class _Answer(msgspec.Struct):
    value: Any = None
    kind: str = ""
    detail: str = ""


def run_offline(
    config: Config, shared: Shared, build: Builder, clock: Clock, work: Work | None = None
) -> Any:
    """Build the App in a child with role "start", run `work` on it, close it; returns its value.

    Raises:
        KmsError: what the build or the work raised. INTERNAL: the child crashed (the log says where).
    """
    reading, writing = os.pipe()

    def main() -> int:
        os.close(reading)
        answer = _attempt(config, shared, build, clock, work)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(msgspec.msgpack.encode(answer))
        return 0 if not answer.kind else children.FAILED

    pid = children.fork("start", main)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        received = pipe.read()
    os.waitpid(pid, 0)
    if not received:
        raise KmsError(ErrorKind.INTERNAL, "the start process crashed; the operator log says where")
    answer = msgspec.msgpack.decode(received, type=_Answer)
    if answer.kind:
        raise KmsError(ErrorKind(answer.kind), answer.detail)
    return answer.value


def _attempt(config: Config, shared: Shared, build: Builder, clock: Clock, work: Work | None) -> _Answer:
    try:
        app = build(config, shared, clock, "start")
        try:
            return _Answer(value=work(app) if work is not None else None)
        finally:
            app.close()
    except KmsError as error:
        return _Answer(kind=error.kind.value, detail=error.detail)
