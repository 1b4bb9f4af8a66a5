"""gunicorn's own messages as lines of the operator log; there is no access log but the audit log."""

# mypy: allow-untyped-calls
# gunicorn has no types.

from __future__ import annotations

import logging
import traceback
from typing import Any

from gunicorn.glogging import Logger

from kms.oplog import MAX_FRAMES, OperatorLog


class _Handler(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self._log = OperatorLog(role="gunicorn")

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        fields: dict[str, Any] = {"message": str(record.msg)[:500]}
        if record.args and record.exc_info is None:
            fields["message"] = record.getMessage()[:500]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            # Type and place only: the text of an exception may quote a request.
            frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
            fields["error"] = type(error).__name__
            fields["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        self._log.write("error" if level == "error" else "warning", "gunicorn", **fields)


class GunicornLog(Logger):
    """Warnings and errors only; set up by gunicorn in every process."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in list(log.handlers):
                log.removeHandler(handler)
            log.propagate = False
        handler = _Handler()
        handler._gunicorn = True  # type: ignore[attr-defined]  # noqa: SLF001  (how gunicorn marks what it may drop)
        self.error_log.addHandler(handler)
        self.error_log.setLevel(logging.WARNING)
