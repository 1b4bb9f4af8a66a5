"""The process that programs run in: one request after another from standard input, one answer each.

It ends when its parent does (end of input), when a program uses up its second of processor time (SIGPROF, which
native code cannot hold up) or its memory. A frame is four bytes of length and a MessagePack map.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any, BinaryIO

import msgspec

from kms.cel import evaluator

CPU_SECONDS = 1.0
MEMORY_BYTES = 512 * 1024 * 1024
MAX_ANSWER = 1024 * 1024


class Request(msgspec.Struct, frozen=True):
    """What the parent asks."""

    task: str  # check | run
    dialect: str
    variables: list[tuple[str, str]]
    expression: str
    values: dict[str, Any]


_read_request = msgspec.msgpack.Decoder(Request).decode


def main() -> None:
    """Until the end of input."""
    _confine()
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    _send(sink, {"ready": True})
    while (frame := _receive(source)) is not None:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        answer = msgspec.msgpack.encode(_answer(_read_request(frame)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        if len(answer) > MAX_ANSWER:
            answer = msgspec.msgpack.encode({"error": "the result of the CEL program is too large"})
        sink.write(len(answer).to_bytes(4, "big") + answer)
        sink.flush()


def _confine() -> None:
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _answer(request: Request) -> dict[str, Any]:
    try:
        if request.task == "check":
            evaluator.check(request.dialect, request.variables, request.expression)
            return {"kind": "checked"}
        return evaluator.run(request.dialect, request.variables, request.expression, request.values)
    except evaluator.Refused as refused:
        return {"error": str(refused)}


def _receive(source: BinaryIO) -> bytes | None:
    header = source.read(4)
    return source.read(int.from_bytes(header, "big")) if len(header) == 4 else None


def _send(sink: BinaryIO, answer: dict[str, Any]) -> None:
    packed = msgspec.msgpack.encode(answer)
    sink.write(len(packed).to_bytes(4, "big") + packed)
    sink.flush()


if __name__ == "__main__":
    main()
