"""How much work a request is, before and after there are many keys, tokens, policies, certificates and records.

Counted, not timed: calls of functions and instructions of SQLite's machine. Run in a process of its own, because the
HSM's module lives as long as its process: `python -m tests.drills.growth FOLDER TOKEN NUMBER` with the data folder of a
stopped `keystead dev` prints the counts as JSON.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from kms.app import App
from kms.cli.local import Local
from kms.clock import SystemClock
from kms.config import load
from kms.shared import Shared

MESSAGE = base64.b64encode(b"64 bytes of nothing in particular").decode()
WARM = 5  # the first calls fill caches and draw allowances
Counts = dict[str, dict[str, int]]


class Work:
    """Counts what happens between `start` and `stop` on this thread."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.calls = 0
        self.steps = 0

    def _called(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.calls += event in {"call", "c_call"}

    def _stepped(self) -> int:
        self.steps += 1
        return 0

    def of(self, request: Callable[[], None]) -> dict[str, int]:
        """The least of a few runs: a checkpoint or a thread of the recorder is nobody's work."""
        seen = [self._once(request) for _ in range(3)]
        return {name: min(one[name] for one in seen) for name in seen[0]}

    def _once(self, request: Callable[[], None]) -> dict[str, int]:
        self.calls = self.steps = 0
        databases = list(self._app.store._open)
        for database in databases:
            database.conn.set_progress_handler(self._stepped, 1)
        sys.setprofile(self._called)
        try:
            request()
        finally:
            sys.setprofile(None)
            for database in databases:
                database.conn.set_progress_handler(None, 0)
        return {"calls": self.calls, "steps": self.steps}


class Server:
    """The whole road in this process, without sockets."""

    def __init__(self, folder: Path, token: str) -> None:
        self.app = App(load(folder / "keystead.toml"), Shared(), SystemClock(), "worker")
        self._local = Local(self.app)
        self._root = token
        self._cheap = token

    def call(self, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        status, answer = self._local.call("POST", path, body, token or self._root)
        assert status in {200, 204}, (path, status, answer)
        return answer or {}

    def prepare(self) -> None:
        self.call("sys/mounts/transit", {"type": "transit"})
        self.call("sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
        root = {"common_name": "Root", "key_type": "ec", "ttl": "8760h"}
        self.call("pki/root/generate/internal", root)
        self.call("pki/roles/web", {"allow_any_name": True, "key_type": "ec"})
        for name, kind in (("aes", "aes256-gcm96"), ("ec", "ecdsa-p256")):
            self.call(f"transit/keys/{name}", {"type": kind, "protection": "software"})
        paths = ("transit/*", "pki/issue/*", "auth/token/lookup-self")
        rules = "\n".join(f'path "{path}" {{ capabilities = ["update"] }}' for path in paths)
        self.call("sys/policies/acl/app", {"policy": rules})
        made = self.call("auth/token/create", {"policies": ["app"], "ttl": "24h"})
        self._cheap = made["auth"]["client_token"]

    def grow(self, number: int) -> None:
        for i in range(number):
            self.call(f"transit/keys/more-{i}", {"type": "aes256-gcm96"})
            self.call(
                f"sys/policies/acl/more-{i}", {"policy": f'path "transit/x{i}" {{ capabilities = ["read"] }}'}
            )
            self.call("auth/token/create", {"policies": [f"more-{i}"], "ttl": "24h"})
            self.call(f"pki/roles/more-{i}", {"allow_any_name": True, "key_type": "ec"})
            self.call("pki/issue/web", {"common_name": f"host-{i}.example.test"}, self._cheap)
            self.call("transit/keys/aes/rotate", {})

    def counts(self) -> Counts:
        ciphertext = self.call("transit/encrypt/aes", {"plaintext": MESSAGE}, self._cheap)["data"][
            "ciphertext"
        ]
        requests: dict[str, tuple[str, dict[str, Any]]] = {
            "encrypt": ("transit/encrypt/aes", {"plaintext": MESSAGE}),
            "decrypt": ("transit/decrypt/aes", {"ciphertext": ciphertext}),
            "sign": ("transit/sign/ec", {"input": MESSAGE}),
            "issue": ("pki/issue/web", {"common_name": "host.example.test"}),
            "lookup": ("auth/token/lookup-self", {}),
        }
        counted: Counts = {}
        for name, (path, body) in requests.items():
            for _ in range(WARM):
                self.call(path, body, self._cheap)
            counted[name] = Work(self.app).of(lambda path=path, body=body: self._ask(path, body))  # type: ignore[misc]
        return counted

    def _ask(self, path: str, body: dict[str, Any]) -> None:
        self.call(path, body, self._cheap)


def main() -> None:
    """Command line."""
    folder, token, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    server = Server(folder, token)
    try:
        server.prepare()
        few = server.counts()
        server.grow(number)
        many = server.counts()
    finally:
        server.app.close()
    print(json.dumps({"few": few, "many": many}))


if __name__ == "__main__":
    main()
