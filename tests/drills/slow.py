"""T-58: sockets that say nothing, and sockets that dribble, beside real traffic.

    scripts/slowloris [--seconds 60] [--idle 2000] [--dribbling 500] [--rate 100] [--clients 0]

Passes when real traffic had no error and 99 of 100 answers came within a second. Each worker takes `limits.connections`
sockets (1,000); more are closed at once, so what is held open must leave room, or a front proxy must stand before it:
with `--clients 10000` so many stay connected through one and ask in turn, instead of the sockets that say nothing (crowd.py).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.drills.crowd import Front, Outcome, gather
from tests.harness.dev import DevServer

LATE_SECONDS = 1.0
DRIBBLE_SECONDS = 1.0
PATIENCE_SECONDS = 30


async def _idle(port: int, ending: asyncio.Event, *, dribbles: bool, outcome: Outcome) -> None:
    """A socket that is opened again whenever the server has closed it."""
    while not ending.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(DRIBBLE_SECONDS)
            continue
        outcome.held += 1
        with contextlib.suppress(OSError, TimeoutError):
            await _hold(reader, writer, ending, dribbles=dribbles)
        outcome.held -= 1
        writer.close()


async def _hold(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ending: asyncio.Event, *, dribbles: bool
) -> None:
    if dribbles:
        writer.write(b"POST /v1/sys/tools/hash HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    while not ending.is_set():
        with contextlib.suppress(TimeoutError):
            if not await asyncio.wait_for(reader.read(1), DRIBBLE_SECONDS):
                return
        if dribbles:
            writer.write(b"a")
            await writer.drain()


async def _call(port: int, request: bytes, outcome: Outcome) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError) as error:
        outcome.errors.append(f"{type(error).__name__}: {error}")
        return
    outcome.seconds.append(time.monotonic() - began)
    if not answer.startswith(b"HTTP/1.1 200"):
        outcome.errors.append(answer[:80].decode("latin-1"))


async def _traffic(port: int, token: str, seconds: float, rate: int, outcome: Outcome) -> None:
    body = json.dumps({"input": "aGVsbG8="}).encode()
    head = f"POST /v1/sys/tools/hash HTTP/1.1\r\nHost: x\r\nX-Vault-Token: {token}\r\nConnection: close\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    loop = asyncio.get_running_loop()
    calls: set[asyncio.Task[None]] = set()
    began = loop.time()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        calls.add(asyncio.create_task(_call(port, request, outcome)))
    await asyncio.gather(*calls)


async def siege(
    port: int, token: str, *, seconds: float, idle: int, dribbling: int, rate: int
) -> tuple[Outcome, int]:
    """The real traffic's outcome, and how many sockets were open at once at its end."""
    outcome, ending = Outcome(), asyncio.Event()
    sockets = [
        asyncio.create_task(_idle(port, ending, dribbles=number >= idle, outcome=outcome))
        for number in range(idle + dribbling)
    ]
    await asyncio.sleep(3)
    await _traffic(port, token, seconds, rate, outcome)
    held = outcome.held
    ending.set()
    await asyncio.gather(*sockets)
    return outcome, held


def main() -> int:
    """The script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usuals = {"seconds": 60, "idle": 2000, "dribbling": 500, "rate": 100, "clients": 0}
    for name, usual in usuals.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    wanted = parser.parse_args()
    need = wanted.clients or wanted.idle + wanted.dribbling + 10 * wanted.rate
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(need + 256, 1024), most))
    with tempfile.TemporaryDirectory() as name:
        server = DevServer(Path(name) / "server", workers=4)
        server.start()
        try:
            if wanted.clients:
                return _crowd(server, Path(name) / "front", wanted.clients, wanted.seconds, wanted.rate)
            outcome, held = asyncio.run(
                siege(
                    server.port,
                    server.token,
                    seconds=wanted.seconds,
                    idle=wanted.idle,
                    dribbling=wanted.dribbling,
                    rate=wanted.rate,
                )
            )
        finally:
            server.stop()
    return _verdict(f"{held} sockets held", outcome)


def _crowd(server: DevServer, folder: Path, clients: int, seconds: int, rate: int) -> int:
    front = Front(folder, server.port)
    try:
        outcome = asyncio.run(
            gather(front.port, front.trust, server.token, clients=clients, seconds=seconds, rate=rate)
        )
    finally:
        front.stop()
    return _verdict(f"{outcome.held} clients connected through the front proxy", outcome)


def _verdict(what: str, outcome: Outcome) -> int:
    print(
        f"{what}; {len(outcome.seconds)} answers, p99 {outcome.p99:.3f} s, "
        f"slowest {max(outcome.seconds, default=0):.3f} s, {len(outcome.errors)} errors {outcome.errors[:3]}"
    )
    return 0 if not outcome.errors and outcome.p99 < LATE_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
