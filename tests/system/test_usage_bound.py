"""The 2^32 bound of AES-GCM keys on a real server: four workers, batches, and workers killed with allowances in hand."""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.harness import processes
from tests.harness.dev import DevServer

LEFT = 24_000  # uses before the bound
BATCH = 100
REFUSALS = 24  # in a row, so that each of four workers has said no
BODY = {"batch_input": [{"plaintext": "aGVsbG8="}] * BATCH}
CHILD = """
import sys
from pathlib import Path
from kms.app import App
from kms.clock import SystemClock
from kms.config import load
from kms.keys.model import KeyUsage
from kms.keys.store import KEY_USAGE
from kms.shared import Shared

app = App(load(Path(sys.argv[1]) / "keystead.toml"), Shared(), SystemClock(), "worker")
app.state.demand_open()
(row,) = [row for row in app.store.reader().scan(KEY_USAGE)]
if len(sys.argv) > 2:
    with app.store.transaction() as tx:
        tx.replace(KEY_USAGE, row, KeyUsage(drawn=int(sys.argv[2]), drawn_at=0.0))
print(row.value.drawn)
app.close()
"""


def usage(server: DevServer, drawn: int | None = None) -> int:
    """The durable count, read (and set) by a process of its own while the server is stopped."""
    arguments = [] if drawn is None else [str(drawn)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(server.data), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


class Load:
    """Threads that encrypt batches until the server refuses."""

    def __init__(self, server: DevServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self.answered = 0
        self.refused = 0
        self.killed = 0
        self.others: list[str] = []
        self._over = threading.Event()

    def run(self) -> None:
        threads = [threading.Thread(target=self._encrypt) for _ in range(6)]
        for thread in threads:
            thread.start()
        self._kill()
        for thread in threads:
            thread.join()

    def _kill(self) -> None:
        dice = random.Random(secrets.randbits(32))
        for goal in (LEFT // 8, LEFT // 4, LEFT // 2):
            while self.answered < goal and not self._over.wait(0.01):
                pass
            table = self._server.tree()
            children = {process.pid for process in table if process.parent == self._server.pid}
            workers = [process.pid for process in table if process.parent in children]
            if workers and not self._over.is_set():
                self.killed += processes.kill(dice.choice(workers))

    def _encrypt(self) -> None:
        headers = {"X-Vault-Token": self._server.token}
        while not self._over.is_set():
            # A new connection each time, so that every worker is asked.
            try:
                answer = httpx.post(
                    f"{self._server.address}/v1/transit/encrypt/aes",
                    json=BODY,
                    headers=headers,
                    timeout=20,
                    trust_env=False,
                )
            except httpx.HTTPError:
                continue  # its worker was killed; it may have spent, but nobody got anything
            self._count(answer)

    def _count(self, answer: httpx.Response) -> None:
        with self._lock:
            if answer.status_code == 200:
                self.answered += BATCH
                self.refused = 0
            elif answer.status_code == 400 and "2^32" in answer.text:
                self.refused += 1
            else:
                self.others.append(f"{answer.status_code} {answer.text[:200]}")
            if self.refused >= REFUSALS or len(self.others) > 20:
                self._over.set()


@pytest.mark.timeout(180)
def test_no_more_uses_than_the_bound_whatever_is_killed(tmp_path: Path) -> None:
    server = DevServer(tmp_path / "server", workers=4)
    server.start()
    with server.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "transit/keys/aes", {"type": "aes256-gcm96"})
        api.ok("POST", "transit/encrypt/aes", {"plaintext": "aGVsbG8="})
    server.stop()
    usage(server, 2**32 - LEFT)
    server.start()
    try:
        load = Load(server)
        load.run()
        assert not load.others
        assert load.killed
        assert LEFT // 2 <= load.answered <= LEFT
        with server.api() as api:
            refused = api.post("transit/encrypt/aes", BODY)
            assert refused.status == 400
            assert b"rotate the key" in refused.content
            api.ok("POST", "transit/keys/aes/rotate", {})
            assert api.ok("POST", "transit/encrypt/aes", {"plaintext": "aGVsbG8="})["key_version"] == 2
    finally:
        server.stop()
