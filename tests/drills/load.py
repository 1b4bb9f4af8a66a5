"""Clients that create, rotate, issue and revoke as fast as they are answered, and remember what they were told."""

from __future__ import annotations

import base64
import random
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress

import httpx

from tests.harness.api import Answer, Api
from tests.invariants import Attempt, Ledger, Sample

PAUSE_WHEN_DOWN_SECONDS = 0.02
ROOT_PAUSE_SECONDS = 0.4
TTL = "24h"  # longer than any drill: what has expired is not revoked any more, and that is a 400
KINDS = (
    ("aes256-gcm96", "hsm"),
    ("aes256-gcm96", "software"),
    ("ecdsa-p256", "hsm"),
    ("ed25519", "hsm"),
    ("chacha20-poly1305", "software"),
)


class Client(threading.Thread):
    """One client. Owns its keys and certificates, so that it knows what their state must be."""

    def __init__(self, number: int, api: Api, ledger: Ledger, *, rotates_root: bool, seed: int) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.running = threading.Event()
        self.idle = threading.Event()
        self.finished = threading.Event()
        self.failure = ""
        self._number = number
        self._api = api
        self._ledger = ledger
        self._random = random.Random(seed)
        self._keys: dict[str, str] = {}
        self._serials: list[str] = []
        self._choices: list[Callable[[], None]] = [
            self._create,
            self._rotate,
            self._rotate,
            self._issue,
            self._revoke,
        ]
        if rotates_root:
            self._choices = [self._rotate_root, self._rotate]

    def run(self) -> None:
        """Until told to finish; while not running, idle."""
        while not self.finished.is_set():
            if not self.running.is_set():
                self.idle.set()
                self.running.wait(0.05)
                continue
            self.idle.clear()
            try:
                self._random.choice(self._choices)()
            except AssertionError as error:
                self.failure = str(error)
                self.finished.set()
        self.idle.set()
        self._api.close()

    def _ask(self, attempt: Attempt, verb: str, path: str, body: object = None) -> Answer | None:
        try:
            answer = self._api.call(verb, path, body)
        except httpx.HTTPError:
            attempt.state = "unknown"
            self.finished.wait(PAUSE_WHEN_DOWN_SECONDS)
            return None
        # 5xx does not say whether it happened; 4xx says that it did not.
        attempt.state = (
            "acknowledged" if answer.status < 300 else "unknown" if answer.status >= 500 else "refused"
        )
        return answer if answer.status < 300 else None

    def _create(self) -> None:
        kind, protection = self._random.choice(KINDS)
        name = f"k{self._number}-{secrets.token_hex(6)}"
        attempt = self._ledger.begin("create", name)
        body = {"type": kind, "protection": protection}
        if self._ask(attempt, "POST", f"transit/keys/{name}", body) is not None:
            self._keys[name] = kind
            self._acknowledged(name, 1)

    def _rotate(self) -> None:
        if not self._keys:
            return self._create()
        name = self._random.choice(list(self._keys))
        answer = self._ask(self._ledger.begin("rotate", name), "POST", f"transit/keys/{name}/rotate", {})
        if answer is None:
            return None
        version = answer.data["latest_version"]
        known = self._ledger.latest[name]
        assert version > known, f"{name}: rotated from {known} to {version}"
        return self._acknowledged(name, version)

    def _acknowledged(self, name: str, version: int) -> None:
        with self._ledger.lock:
            self._ledger.latest[name] = version
        message = base64.b64encode(b"canary " + secrets.token_hex(8).encode()).decode()
        verb, field, result = ("encrypt", "plaintext", "ciphertext")
        if self._keys[name] in {"ecdsa-p256", "ed25519"}:
            verb, field, result = ("sign", "input", "signature")
        with suppress(httpx.HTTPError):
            answer = self._api.post(f"transit/{verb}/{name}", {field: message})
            if answer.status == 200:
                made = answer.data[result]
                with self._ledger.lock:
                    self._ledger.samples.append(
                        Sample(name, int(made.split(":")[1][1:]), message, made, verb == "encrypt")
                    )
                    self._ledger.secrets.append(base64.b64decode(message).decode())

    def _rotate_root(self) -> None:
        # Each one leaves objects in the token for ever; a few a second are enough to be hit.
        self.finished.wait(self._random.uniform(0, ROOT_PAUSE_SECONDS))
        self._ask(self._ledger.begin("rotate-root", "root"), "POST", "sys/hsm/root/rotate", {})

    def _issue(self) -> None:
        name = f"{secrets.token_hex(6)}.svc.example.test"
        answer = self._ask(
            self._ledger.begin("issue", name), "POST", "pki/issue/mesh", {"common_name": name, "ttl": TTL}
        )
        if answer is not None:
            serial = answer.data["serial_number"]
            self._serials.append(serial)
            lines = answer.data["private_key"].splitlines()
            with self._ledger.lock:
                self._ledger.serials.append(serial.replace(":", ""))
                self._ledger.secrets.append(lines[len(lines) // 2])

    def _revoke(self) -> None:
        if not self._serials:
            return
        serial = self._serials.pop()
        answer = self._ask(
            self._ledger.begin("revoke", serial), "POST", "pki/revoke", {"serial_number": serial}
        )
        if answer is not None:
            with self._ledger.lock:
                self._ledger.revoked.append(serial.replace(":", ""))


class Load:
    """Some clients, started and stopped together."""

    def __init__(self, connect: Callable[[], Api], ledger: Ledger, clients: int, seed: int) -> None:
        self.clients = [
            Client(number, connect(), ledger, rotates_root=number == 0, seed=seed + number)
            for number in range(clients)
        ]
        for client in self.clients:
            client.start()

    def go(self) -> None:
        """Begin to ask, or go on."""
        for client in self.clients:
            client.idle.clear()
            client.running.set()

    def rest(self, seconds: float = 40) -> None:
        """Stop asking; returns when every request has ended one way or the other."""
        for client in self.clients:
            client.running.clear()
        for client in self.clients:
            assert client.idle.wait(seconds), f"{client.name} still waits for an answer"
            assert not client.failure, client.failure

    def finish(self) -> None:
        """End the threads."""
        for client in self.clients:
            client.finished.set()
        for client in self.clients:
            client.join(40)
