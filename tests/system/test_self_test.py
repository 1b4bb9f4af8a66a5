"""T-01 on a live server: a wrong answer to the periodic self-test stops every worker, and a right one starts them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import log, processes
from tests.harness.api import Answer
from tests.harness.dev import DevServer

WORKERS = 4
ASKED = 6 * WORKERS  # fresh connections, so that each worker is among them

FOUND = "self-test failed: AES-GCM in the token differs"


@pytest.fixture(name="wrong")
def _wrong(tmp_path: Path) -> Path:
    return tmp_path / "wrong"


@pytest.fixture(name="server")
def _server(tmp_path: Path, wrong: Path) -> Iterator[DevServer]:
    wrapper = [sys.executable, "-P", str(Path(__file__).parents[1] / "harness" / "faulty.py"), str(wrong)]
    running = DevServer(tmp_path / "server", workers=WORKERS, wrapper=wrapper)
    running.start()
    yield running
    running.stop()


def asks(server: DevServer, path: str = "transit/encrypt/k") -> Answer:
    with server.api() as api:
        return api.post(path, {"plaintext": "AAAA"})


def test_a_wrong_answer_stops_every_worker(server: DevServer, wrong: Path) -> None:
    with server.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "transit/keys/k", {"type": "aes256-gcm96"})
        api.ok("POST", "sys/mounts/pki", {"type": "pki"})
    began = time.monotonic()
    wrong.touch()
    processes.wait_for(lambda: FOUND in server.errors.read_text(), 60, "the test that finds it")
    found = time.monotonic() - began
    # It is told when the workers know.
    answers = [asks(server) for _ in range(ASKED)]
    assert [answer.status for answer in answers] == [503] * ASKED
    with server.api() as api:
        assert api.post("pki/root/generate/internal", {"common_name": "X"}).status == 503
        assert api.get("sys/policies/acl").status == 503
        status = api.get("sys/seal-status")
        assert status.json["sealed"] is True
        assert api.get("sys/health").status == 503
    wrong.unlink()
    processes.wait_for(lambda: asks(server).status == 200, 60, "service again")
    assert [asks(server).status for _ in range(ASKED)] == [200] * ASKED
    refused = [entry for entry in log.entries(server.audit) if entry.operation == "transit.encrypt"]
    assert len(refused) > ASKED
    print(
        f"found {found:.2f} s after the answers became wrong (a test was due each 0.2 s); then nobody answered"
    )
