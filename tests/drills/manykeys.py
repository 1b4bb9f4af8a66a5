"""Many wrapped keys on one SoftHSM: does a start, or a use, get slower with their number?

Keys are made over the HTTP API, as anybody makes them. The server is stopped and started with few keys and with all,
three times each; the shortest start counts, as others use the machine as well. Then keys taken at random are used that
no worker has in memory. The objects in the token are counted before and after: wrapped keys add none.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.harness.dev import DevServer

FEW = 100
STARTS = 3
CALLERS = 4
PICKED = 200
TEXT = b64encode(b"card 4711").decode()
# A start that grew with the keys would grow a thousandfold; this is what a busy machine may add.
ALLOWED_SLOWER = 1.5
ALLOWED_SECONDS = 1.0


@dataclass(frozen=True)
class Figures:
    """What was measured with so many keys."""

    keys: int
    start_seconds: float
    first_use_ms: float
    objects: int
    database_mib: float

    def line(self) -> str:
        """A row of the table."""
        return (
            f"{self.keys:>9,} keys   start {self.start_seconds:6.2f} s   first use {self.first_use_ms:6.2f} ms   "
            f"{self.objects:>4} objects in the token   database {self.database_mib:8.1f} MiB"
        )


def name_of(number: int) -> str:
    """The number's key; two of three encrypt, the third MACs."""
    return f"k{number:06d}"


def make(server: DevServer, first: int, last: int) -> float:
    """Make the keys from `first` up to `last`; keys per second."""
    failures: list[str] = []
    began = time.monotonic()

    def work(offset: int) -> None:
        with server.api() as api:
            for number in range(first + offset, last, CALLERS):
                type_ = "hmac" if number % 3 == 2 else "aes256-gcm96"
                try:
                    answer = api.post(f"many/keys/{name_of(number)}", {"type": type_, "protection": "hsm"})
                except httpx.HTTPError as error:
                    failures.append(f"no answer to number {number}: {error!r}")
                    return
                if answer.status != 200:
                    failures.append(f"number {number}: {answer.status} {answer.errors}")
                    return

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"a key was not made: {failures[0]}")
    return (last - first) / (time.monotonic() - began)


def measure(server: DevServer, keys: int) -> Figures:
    """Stop, start and use. The server runs before and after."""
    starts = []
    for _ in range(STARTS):
        server.stop()
        began = time.monotonic()
        server.start()
        starts.append(time.monotonic() - began)
    picked = random.Random(7).sample(range(keys), min(PICKED, keys))  # a choice of keys, no secret
    took = []
    with server.api() as api:
        for number in picked:
            path, body = ("hmac", {"input": TEXT}) if number % 3 == 2 else ("encrypt", {"plaintext": TEXT})
            began = time.monotonic()
            api.ok("POST", f"many/{path}/{name_of(number)}", body)
            took.append((time.monotonic() - began) * 1e3)
    folder = next(server.data.rglob("softhsm2.conf")).parent / "tokens"
    database = sum(path.stat().st_size for path in (server.data / "storage").rglob("*") if path.is_file())
    return Figures(
        keys, min(starts), statistics.median(took), len(list(folder.rglob("*.object"))), database / 2**20
    )


def verdict(few: Figures, many: Figures) -> list[str]:
    """What is wrong; empty if nothing is."""
    wrong = []
    if many.start_seconds > ALLOWED_SLOWER * few.start_seconds + ALLOWED_SECONDS:
        wrong.append(f"a start got slower: {few.start_seconds:.2f} s to {many.start_seconds:.2f} s")
    if many.objects != few.objects:
        wrong.append(f"wrapped keys left objects in the token: {few.objects} to {many.objects}")
    return wrong


def drill(folder: Path, keys: int) -> list[str]:
    """The whole; prints as it goes, returns what is wrong."""
    server = DevServer(folder, workers=2)
    server.start()
    try:
        with server.api() as api:
            api.ok("POST", "sys/mounts/many", {"type": "transit"})
        make(server, 0, FEW)
        few = measure(server, FEW)
        print(few.line(), flush=True)
        rate = make(server, FEW, keys)
        many = measure(server, keys)
        print(f"{many.line()}\nmade over HTTP at {rate:.0f} keys/s", flush=True)
        return verdict(few, many)
    finally:
        server.stop()


def main(arguments: list[str]) -> int:
    """Entry point; 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="scripts/many-keys", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000, help="how many (default: %(default)s)")
    with tempfile.TemporaryDirectory(prefix="keystead-many-") as folder:
        wrong = drill(Path(folder) / "server", parser.parse_args(arguments).keys)
    print("\n".join(wrong) or "a start does not slow down with the number of wrapped keys")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
