"""The worker's end: one child process per worker, made at the first program and again after each that died.

A program that goes over its bounds costs its request, and the next one a new process (a fifth of a second). The
child gets requests and claims, never a key, a token or an environment.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any

import msgspec

from kms.cel.program import Program
from kms.errors import ErrorKind, KmsError, invalid

_STARTING = 30.0  # seconds until a new child must have reported
_ANSWERING = 20.0  # seconds of waiting; a busy machine may give a second of processor time that slowly
_DYING = 5.0  # seconds between the end of its output and of itself
_WAITING = 20.0  # seconds in the queue before this one
_MAX_REQUEST = 512 * 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program came to.

    Args:
        kind: "bool", "string", "message" (then `name` is the message's full name and `value` a map of its members), or
            "other" (then `name` says which type, in the peer's words).
    """

    kind: str
    value: Any = None
    name: str = ""


class _Answer(msgspec.Struct, frozen=True):
    kind: str = ""
    value: Any = None
    name: str = ""
    error: str = ""
    ready: bool = False


_read_answer = msgspec.msgpack.Decoder(_Answer).decode


class Sandbox:
    """One per process; safe to use from several threads, one program at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._farewell: weakref.finalize[..., Sandbox] | None = None

    def check(self, dialect: str, program: Program) -> None:
        """Raises KmsError(INVALID): the program does not parse, or its expression does not fit the types."""
        self._ask("check", dialect, program, {})

    def run(self, dialect: str, program: Program, values: Mapping[str, Any], failing: str = "") -> Outcome:
        """Evaluate; `failing` goes before the text of an error.

        Raises:
            KmsError(INVALID): it went wrong, or over its bounds.
            KmsError(RATE_LIMITED): other programs have the process for too long.
        """
        answer = self._ask("run", dialect, program, values, failing)
        return Outcome(answer.kind, answer.value, answer.name)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._end()

    def _ask(
        self, task: str, dialect: str, program: Program, values: Mapping[str, Any], failing: str = ""
    ) -> _Answer:
        request = msgspec.msgpack.encode(
            {
                "task": task,
                "dialect": dialect,
                "variables": [(each.name, each.expression) for each in program.variables],
                "expression": program.expression,
                "values": plain(values),
            }
        )
        if len(request) > _MAX_REQUEST:
            raise invalid("the request is too large for a CEL program")
        if not self._lock.acquire(timeout=_WAITING):
            raise KmsError(ErrorKind.RATE_LIMITED, "too many CEL programs are waiting: try again later")
        try:
            answer = self._exchange(request)
        finally:
            self._lock.release()
        if answer.error:
            raise invalid(failing + answer.error)
        return answer

    def _exchange(self, request: bytes) -> _Answer:
        child = self._running()
        try:
            _write(child.stdin, request)
            return _read(child.stdout, _ANSWERING)
        except (EOFError, TimeoutError, BrokenPipeError) as died:
            code = self._end(_DYING if isinstance(died, EOFError) else 0.0)
            slow = isinstance(died, TimeoutError) or code == -signal.SIGPROF
            _log.warning("a CEL program was ended: %s", "time" if slow else f"exit code {code}")
            raise invalid(
                "the CEL program was ended: it took more than a second of processor time"
                if slow
                else "the CEL program was ended: it took too much memory"
            ) from None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-m", "kms.cel.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
        )
        # With the sandbox, or the interpreter, goes its child; it would go by itself when its input ends.
        self._farewell = weakref.finalize(self, _stop, self._child)
        try:
            _read(self._child.stdout, _STARTING)
        except (EOFError, TimeoutError):
            self._end()
            raise KmsError(ErrorKind.INTERNAL, "the process for CEL programs does not start") from None
        return self._child

    def _end(self, patience: float = 0.0) -> int:
        child, self._child = self._child, None
        if child is None:
            return 0
        if self._farewell is not None:
            self._farewell.detach()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)  # one that is dying by itself, so that its code says of what
        return _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> int:
    child.kill()
    code = child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was left to write, for nobody now
                pipe.close()
    return code


def plain(value: Any) -> Any:
    r"""JSON as programs see it: numbers of 64 bits, and floating where they are larger or have a fraction.

    Raises:
        KmsError(INVALID): a text with U+0000, of which the evaluator would see only what is before it (so that
            `admin\u0000x` were `admin` to a program), or with half a surrogate pair.
    """
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, Mapping):
        return {_whole(str(name)): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return float(value)
    return value


def _whole(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text if character > "\ud7ff"):
        raise invalid("a text for a CEL program cannot hold U+0000 or half a surrogate pair")
    return text


def _write(pipe: IO[bytes] | None, frame: bytes) -> None:
    if pipe is None:
        raise EOFError
    pipe.write(len(frame).to_bytes(4, "big") + frame)
    pipe.flush()


def _read(pipe: IO[bytes] | None, seconds: float) -> _Answer:
    """One frame; the child writes each with one call, so waiting for its first byte is waiting for all."""
    if pipe is None:
        raise EOFError
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise TimeoutError
    header = pipe.read(4)
    if len(header) < 4:
        raise EOFError
    body = pipe.read(int.from_bytes(header, "big"))
    return _read_answer(body)
