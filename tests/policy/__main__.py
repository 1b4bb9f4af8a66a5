"""`scripts/policy-fuzz`: the comparison of T-44 with as many cases as are asked for."""

from __future__ import annotations

import random
import sys
from collections import Counter

from kms.clock import SystemClock
from tests.policy import fuzz

_STEP = 20_000


def main(cases: int) -> None:
    clock, seed = SystemClock(), random.randrange(2**32)
    rng, seen, began = random.Random(seed), Counter[str](), clock.monotonic()
    print(f"seed {seed}")
    while seen.total() < cases:
        seen += fuzz.compare(rng, min(_STEP, cases - seen.total()))
        print(f"{seen.total():9,} decisions, {clock.monotonic() - began:5.0f} s, 0 differences", flush=True)
    for why, count in seen.most_common():
        print(f"{count:9,} {why}")


main(int(sys.argv[1]))
