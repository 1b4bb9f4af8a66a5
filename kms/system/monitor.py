"""sys/monitor: the operator log of all processes of this server, as it is written, at a level of the caller's own.

What the operator log says, and nothing else: no secret is in it by its own contract (`kms.oplog`). It begins with one
line that says so, because a client that waits for the first byte would not know that it is connected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from kms.clock import Clock, rfc3339
from kms.errors import KmsError, invalid
from kms.operation import Call, Capability, Field, Operation, Principal, Record, Release, Result, Runs
from kms.oplog import LEVELS
from kms.recent import RECENT

AT_ONCE: Final = 64
"""Lines of one piece."""
LOOK_SECONDS: Final = 2.0
"""How often it is asked whether the caller's token is still in force."""
FORMATS: Final = ("standard", "json")

_OWN = ("time", "level", "event", "process")
_LEVELS = {"warning": "warn"}
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class MonitorHandlers:
    """Handlers. One per process, safe to use from several threads.

    Args:
        stands: whether the token of a principal is still in force.
    """

    def __init__(self, clock: Clock, stands: Callable[[Principal], bool]) -> None:
        self._clock = clock
        self._stands = stands

    def monitor(self, call: Call) -> Result:
        """Begins with what is logged from now on."""
        style = (call.args["log_format"] or "standard").strip().lower()
        if style not in FORMATS:
            raise invalid("unknown log format")
        level = (call.args["log_level"] or "info").strip().lower()
        if level not in LEVELS:
            raise invalid("unknown log level")
        if call.wrap_ttl or call.facts:
            raise invalid("the log is a stream, which can neither be wrapped nor wait for consent")
        return Result(stream=_Watched(self._clock, self._stands, call.principal, level, style))

    def table(self) -> list[Operation]:
        """The operations."""
        fields = (Field("log_level", record=Record.CLEAR), Field("log_format", record=Record.CLEAR))
        return [
            Operation(
                "sys.monitor",
                Capability.READ,
                self.monitor,
                sudo=True,
                release=Release.STREAM,
                runs=Runs.THREAD,
                fields=fields,
            )
        ]


class _Watched:
    """The stream of one caller (`kms.operation.Stream`)."""

    def __init__(
        self, clock: Clock, stands: Callable[[Principal], bool], principal: Principal, level: str, style: str
    ) -> None:
        self._clock = clock
        self._stands = stands
        self._principal = principal
        self._least = LEVELS.index(level)
        self._write = _json if style == "json" else _standard
        self._mark = RECENT.mark()
        self._next_look = clock.monotonic() + LOOK_SECONDS
        self._first = self._own("info", "log_watched", log_level=level)

    def take(self) -> bytes | None:
        """The next lines. None once the token is not in force any more."""
        if self._first:
            first, self._first = self._first, b""
            return first
        if not self._allowed():
            return None
        lines, self._mark, lost = RECENT.since(self._mark, AT_ONCE)
        told = [self._write(_decode(line.text)) for line in lines if line.rank >= self._least]
        if lost:
            told.insert(0, self._own("warning", "lines_missed", lines=lost))
        return b"".join(told)

    def _allowed(self) -> bool:
        now = self._clock.monotonic()
        if now < self._next_look:
            return True
        self._next_look = now + LOOK_SECONDS
        try:
            return self._stands(self._principal)
        except KmsError:
            return False  # sealed, or the storage is gone: nobody is known any more

    def _own(self, level: str, event: str, **fields: str | int) -> bytes:
        known = {"time": rfc3339(self._clock.now()), "level": level, "event": event, "process": "monitor"}
        return self._write(known | fields)


def _level(record: dict[str, Any]) -> str:
    level = str(record["level"])
    return _LEVELS.get(level, level)


def _json(record: dict[str, Any]) -> bytes:
    """In the names that clients of the peer know."""
    named = {
        "@level": _level(record),
        "@message": record["event"],
        "@module": record["process"],
        "@timestamp": record["time"],
    }
    return _encode(named | _rest(record)) + b"\n"


def _standard(record: dict[str, Any]) -> bytes:
    """One line for people: strings with spaces or controls in quotes, so that no value begins a line of its own."""
    label = f"[{_level(record).upper()}]"
    rest = " ".join(f"{name}={_shown(value)}" for name, value in _rest(record).items())
    return f"{record['time']} {label:<7} {record['process']}: {record['event']}: {rest}\n".encode()


def _rest(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _OWN}


def _shown(value: object) -> str:
    if isinstance(value, str) and value.isprintable() and value and not set(value) & set(' "='):
        return value
    return _encode(value).decode()
