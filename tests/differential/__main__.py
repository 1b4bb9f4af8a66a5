"""All generated requests, and then random ones for as long as asked: `scripts/differential [MINUTES [SEED]]`."""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from tests.differential.generate import Generator, setup
from tests.differential.rules import WANDERING, Comparison, load
from tests.differential.run import run
from tests.differential.sides import Request, ours, theirs
from tests.differential.wander import Wanderer
from tests.harness.dev import DevServer


def until(deadline: float, requests: Iterable[Request]) -> Iterator[Request]:
    """Requests as long as there is time."""
    return takewhile(lambda _: time.monotonic() < deadline, requests)


def main(minutes: float, seed: int) -> int:
    """Exit code 1 when any difference is not allowed."""
    print(f"seed {seed}", flush=True)
    generated, wandered = Comparison(load()), Comparison([*load(), *load(WANDERING)])
    with tempfile.TemporaryDirectory() as folder, theirs() as their_side:
        server = DevServer(Path(folder) / "server", workers=2)
        server.start()
        try:
            our_side = ours(server)
            run(their_side, our_side, setup(), generated)
            run(their_side, our_side, Generator().all(), generated)
            deadline = time.monotonic() + minutes * 60
            source = Wanderer(seed)
            requests = until(deadline, source.requests())
            run(their_side, our_side, requests, wandered, loose=True, mend=source.mend)
        finally:
            server.stop()
    for text in generated.different + wandered.different[:400]:
        print(text)
    for text in generated.dropped + wandered.dropped[:20]:
        print(f"dropped by the real server: {text}")
    print(f"generated: {generated.report()}\nrandom: {wandered.report()}")
    return 1 if generated.different or wandered.different else 0


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(
        main(float(given[0]) if given else 1, int(given[1]) if given[1:] else secrets.randbelow(1 << 32))
    )
