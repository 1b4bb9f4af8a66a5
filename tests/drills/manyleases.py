"""A million leases: what do a start, a request, an expiry and the end of a prefix cost beside none?

The rows are written into the database of a stopped server by its own code, sealed as ever, because a million requests
would take hours. Then it starts, is asked, and takes back what is over; an empty server does the same beside it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from kms.app.process import build
from kms.clock import SystemClock
from kms.config import load
from kms.ids import base62
from kms.leases import Lease
from kms.leases.desk import AT_ONCE
from kms.leases.store import LEASES
from kms.shared import Shared
from pki.leasing import KIND
from tests.harness import processes
from tests.harness.api import Api
from tests.harness.dev import DevServer

MOUNT = "many"
PREFIX = f"{MOUNT}/issue/leased"
STARTS = 3
ASKED = 100
PER_COMMIT = 5_000
OVER = 2_000  # of all leases, over at the start
ALLOWED_SLOWER_START = 2.0  # seconds
ALLOWED_MS = 2.0


def prepare(server: DevServer) -> None:
    """A CA whose certificates have leases."""
    server.start()
    with server.api() as api:
        api.ok("POST", f"sys/mounts/{MOUNT}", {"type": "pki"})
        api.ok("POST", f"{MOUNT}/root/generate/internal", {"common_name": "Many", "key_type": "ec"})
        role = {"allow_any_name": True, "key_type": "ec", "generate_lease": True, "ttl": "1h"}
        api.ok("POST", f"{MOUNT}/roles/leased", role)
        api.post(f"{MOUNT}/issue/leased", {"common_name": "first.example.test"})
    server.stop()


def fill(server: DevServer, leases: int) -> float:
    """Write so many leases; the seconds that took."""
    began = time.monotonic()
    app = build(load(server.data / "keystead.toml"), Shared(), SystemClock(), "start")
    try:
        (first,) = app.store.reader().scan(LEASES, f"{PREFIX}/", limit=1)
        for base in range(0, leases, PER_COMMIT):
            with app.store.transaction() as tx:
                for number in range(base, min(leases, base + PER_COMMIT)):
                    tx.insert(LEASES, f"{PREFIX}/{base62(24)}", one(first.value, number, leases))
            if base % 100_000 == 0:
                print(f"    {base:,} of {leases:,}", flush=True)
    finally:
        app.close()
    return time.monotonic() - began


def one(pattern: Lease, number: int, leases: int) -> Lease:
    """A lease as an engine makes it; the first few are over already."""
    end = 0.5 if number < min(OVER, leases // 10) else pattern.expires_at + 86_400 + number
    return replace(pattern, kind=KIND, expires_at=end, data={"serial": f"{number:040x}"})


def start_seconds(server: DevServer) -> float:
    """The shortest of some starts, to the first answer."""
    times = []
    for _ in range(STARTS):
        began = time.monotonic()
        server.start()
        times.append(time.monotonic() - began)
        if len(times) < STARTS:
            server.stop()
    return min(times)


def median_ms(act: Callable[[], object]) -> float:
    """One request's time."""
    times = []
    for _ in range(ASKED):
        began = time.monotonic()
        act()
        times.append((time.monotonic() - began) * 1e3)
    return statistics.median(times)


def requests(api: Api) -> dict[str, float]:
    """What single requests cost."""

    def issue_and_revoke() -> None:
        issued = api.post(f"{MOUNT}/issue/leased", {"common_name": "one.example.test"}).json["lease_id"]
        api.ok("PUT", "sys/leases/revoke", {"lease_id": issued})

    held = api.post(f"{MOUNT}/issue/leased", {"common_name": "held.example.test"}).json["lease_id"]
    return {
        "look a lease up": median_ms(lambda: api.ok("PUT", "sys/leases/lookup", {"lease_id": held})),
        "list the folders": median_ms(lambda: api.ok("LIST", f"sys/leases/lookup/{MOUNT}/issue")),
        "issue and revoke one": median_ms(issue_and_revoke),
    }


def drill(folder: Path, leases: int) -> list[str]:
    """The whole; prints as it goes, returns what is wrong."""
    control, many = (DevServer(folder / name, workers=2) for name in ("control", "many"))
    wrong = []
    try:
        for server in (control, many):
            prepare(server)
        print(f"{leases:,} leases written in {fill(many, leases):.0f} s", flush=True)
        starts = start_seconds(control), start_seconds(many)
        memory = [processes.resident_bytes(server.pid) / 2**20 for server in (control, many)]
        print(f"start: {starts[0]:.2f} s without, {starts[1]:.2f} s with them; "
              f"memory: {memory[0]:.0f} MiB without, {memory[1]:.0f} MiB with them", flush=True)  # fmt: skip
        if starts[1] > starts[0] + ALLOWED_SLOWER_START:
            wrong.append("a start got slower")
        with control.api() as few, many.api() as lots:
            before, after = requests(few), requests(lots)
            for what, ms in before.items():
                print(f"{what}: {ms:.2f} ms without, {after[what]:.2f} ms with them", flush=True)
                if after[what] > 1.5 * ms + ALLOWED_MS:
                    wrong.append(f"it got dearer to {what}")
            began = time.monotonic()
            lots.ok("PUT", f"sys/leases/revoke-prefix/{MOUNT}", {})
            print(f"revoke-prefix {MOUNT}: answered after {time.monotonic() - began:.2f} s", flush=True)
            if lots.list(f"sys/leases/lookup/{MOUNT}").status != 404 and leases < AT_ONCE:
                wrong.append("a lease below a revoked prefix is in force")
    finally:
        for server in (control, many):
            server.stop()
    return wrong


def main() -> int:
    """Command line of scripts/many-leases."""
    parser = argparse.ArgumentParser(
        prog="scripts/many-leases", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("leases", type=int, nargs="?", default=1_000_000, help="how many")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keystead-many-leases-") as name:
        wrong = drill(Path(name), given.leases)
    for line in wrong:
        sys.stderr.write(line + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
