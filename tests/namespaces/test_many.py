"""Many tenants cost a request nothing, and a start little: by the CPU time of the server's processes, not by the clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.dev import DevServer

TENANTS = 300
REQUESTS = 300
# Twice, and what the kernel's count of 10 ms and the background work of a second may add.
FACTOR, SLACK_SECONDS = 2.0, 0.3


def cost(server: DevServer, act: Callable[[], object], times: int) -> float:
    """CPU seconds of all processes for doing something so often."""
    act()  # whatever is read once
    before = processes.cpu_seconds(server.pid)
    for _ in range(times):
        act()
    return processes.cpu_seconds(server.pid) - before


@pytest.mark.slow
def test_requests_and_starts_do_not_grow_with_the_number_of_namespaces(tmp_path: Path) -> None:
    server = DevServer(tmp_path, workers=1)
    server.start()
    try:
        with server.api() as api:
            api.ok("POST", "sys/mounts/transit", {"type": "transit"})
            api.ok("POST", "transit/keys/k", {})

            def read(namespace: str) -> Callable[[], object]:
                return lambda: api.call("GET", "transit/keys/k", headers={"X-Vault-Namespace": namespace})

            alone = cost(server, read(""), REQUESTS)
            for number in range(TENANTS):
                api.ok("POST", f"sys/namespaces/n{number}", {})
            last = f"n{TENANTS - 1}"
            within = {"X-Vault-Namespace": last}
            for path, body in (("sys/mounts/transit", {"type": "transit"}), ("transit/keys/k", {})):
                assert api.call("POST", path, body, headers=within).status in {200, 204}
            for namespace in ("", last):
                many = cost(server, read(namespace), REQUESTS)
                print(f"in {namespace or 'root'}: {alone:.2f} s alone, {many:.2f} s of CPU among {TENANTS}")
                assert many <= alone * FACTOR + SLACK_SECONDS
            # What changes one tenant's mounts is read anew by all, once.
            tune = {"description": "x"}

            def change() -> None:
                api.call("POST", "sys/mounts/transit/tune", tune, headers=within)
                read("")()

            print(f"a change of a mount and the next request: {cost(server, change, 10) / 10:.3f} s of CPU")
        server.stop()
        server.start()
        started = processes.cpu_seconds(server.pid)
        print(f"a start among {TENANTS}: {started:.2f} s of CPU")
        with server.api() as api:
            assert api.call("GET", "transit/keys/k", headers={"X-Vault-Namespace": last}).status == 200
    finally:
        server.stop()
