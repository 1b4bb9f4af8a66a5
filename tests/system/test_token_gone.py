"""T-08 over HTTP: the token goes away under load and comes back. KEYSTEAD_ROUNDS=50 makes the drill of this test."""

from __future__ import annotations

import os
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.harness.workers import until_each

P = b64encode(b"card 4711").decode()
ROUNDS = int(os.environ.get("KEYSTEAD_ROUNDS", "2"))
AWAY_SECONDS = 20.0 if ROUNDS >= 50 else 2.0
BACK_WITHIN_SECONDS = 5.0
WORKERS = 2
CALLERS = 4
PER_SECOND = 50


class Callers:
    """Threads that decrypt, sign and now and then make a key, until they are stopped."""

    def __init__(self, server: DevServer, ciphertext: str) -> None:
        self.seen: Counter[int] = Counter()
        self.wrong: list[str] = []
        self._server = server
        self._ciphertext = ciphertext
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(CALLERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        made = 0
        with self._server.api() as api:
            while not self._stop.is_set():
                made += 1
                self._one(api, made, f"new-{number}-{made}")
                time.sleep(CALLERS / PER_SECOND)

    def _one(self, api: Api, made: int, name: str) -> None:
        path, body = [
            ("decrypt/k", {"ciphertext": self._ciphertext}),
            ("sign/s", {"input": P}),
        ][made % 2]
        if made % 50 == 0:
            path, body = f"keys/{name}", {"type": "ed25519"}
        answer = api.post(f"transit/{path}", body)
        self.seen[answer.status] += 1
        if answer.status not in (200, 503):
            self.wrong.append(f"{path}: {answer.status} {answer.errors}")
        elif path == "decrypt/k" and answer.status == 200 and answer.data["plaintext"] != P:
            self.wrong.append("a wrong plaintext")


def pull_out(tokens: Path, seconds: float) -> None:
    """The token's folder is away for a while."""
    away = tokens.with_name("away")
    tokens.rename(away)
    tokens.mkdir()
    time.sleep(seconds)
    tokens.rmdir()
    away.rename(tokens)


def test_only_503_while_the_token_is_away(fresh_server: Callable[..., DevServer]) -> None:
    server = fresh_server(workers=WORKERS)
    tokens = next(server.data.rglob("softhsm2.conf")).parent / "tokens"
    with server.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "transit/keys/k", {"type": "aes256-gcm96", "protection": "hsm"})
        api.ok("POST", "transit/keys/s", {"type": "ed25519"})
        before = api.ok("POST", "transit/encrypt/k", {"plaintext": P})["ciphertext"]
    callers = Callers(server, before)
    callers.start()
    longest = 0.0
    try:
        for _ in range(ROUNDS):
            time.sleep(1)
            pull_out(tokens, AWAY_SECONDS)
            longest = max(longest, until_each(server, WORKERS, "transit/decrypt/k", {"ciphertext": before}))
    finally:
        callers.stop()
    total = sum(callers.seen.values())
    print(f"{ROUNDS} rounds, {total} requests {dict(callers.seen)}, back after at most {longest:.1f} s")
    assert callers.wrong == []
    assert set(callers.seen) == {200, 503}
    assert longest < BACK_WITHIN_SECONDS
    with server.api() as api:
        # What answered 503 made nothing half, and what answered 200 is usable.
        for name in api.list("transit/keys").data["keys"]:
            if name.startswith("new"):
                answer = api.post(f"transit/sign/{name}", {"input": P})
                assert answer.status == 200, (name, answer.errors)
