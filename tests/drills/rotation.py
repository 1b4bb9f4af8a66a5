"""Rotates keys and the root under load while workers are killed, and compares all answers afterwards.

load       requests at a steady rate over kept-alive connections: encrypt and decrypt with a software and
           an hsm key, sign and verify
meanwhile  every key rotates N times, the root in the HSM M times, and K workers get SIGKILL
must hold  no request fails but on connections that a killed worker held; every ciphertext of the run
           decrypts to what was put in, every signature verifies; versions never go back: a request
           that began after another had ended uses no older version, a rotation included; the
           offline verifier accepts the log
"""

from __future__ import annotations

import argparse
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.drills import observe
from tests.drills.wire import Lost, Wire, kill_with_its_ports
from tests.harness import processes
from tests.harness.dev import DevServer

KEYS: Final = {
    "soft": {"protection": "software"},
    "hard": {"protection": "hsm"},
    "pen": {"type": "ecdsa-p256"},
}
BATCH: Final = 500
CLIENTS: Final = 8
WORKERS: Final = 4
PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    rate: int
    seconds: float
    rotations: int
    roots: int
    kills: int


@dataclass(frozen=True)
class Used:
    """One answer that used a version as the newest, or a rotation that made it."""

    key: str
    began: float
    ended: float
    version: int


@dataclass
class Journal:
    """What all threads saw. Appending to a list is atomic; it is read when they have ended."""

    used: list[Used] = field(default_factory=list)
    sealed: list[tuple[str, str, str]] = field(default_factory=list)  # key, ciphertext, plaintext
    signed: list[tuple[str, str]] = field(default_factory=list)  # signature, input
    refused: list[str] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    killed: list[frozenset[int]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


class Client(threading.Thread):
    """Sends its share of the rate until it is told to stop."""

    def __init__(self, wire: Wire, journal: Journal, rate: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._wire = wire
        self._journal = journal
        self._pause = 1 / rate
        self._random = random.Random(seed)
        self.over = threading.Event()

    def run(self) -> None:
        works: list[Callable[[], None]] = [
            self._encrypt,
            self._encrypt,
            self._decrypt,
            self._sign,
            self._verify,
        ]
        due = time.monotonic() + self._random.random() * self._pause
        while not self.over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic() - 1)  # of a longer hold-up, a second is made up
            self._random.choice(works)()
        self._wire.close()

    def _call(self, what: str, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float, float] | None:
        journal, began = self._journal, time.monotonic()
        try:
            status, answer = self._wire.call("POST", path, body)
        except Lost as lost:
            journal.lost.append(lost)
            return None
        ended = time.monotonic()
        journal.seconds.append(ended - began)
        journal.counts[what] += 1
        if status != 200:
            journal.refused.append(f"{what} {path}: {status} {answer}")
            return None
        return answer["data"], began, ended

    def _encrypt(self) -> None:
        key = self._random.choice(("soft", "hard"))
        plaintext = b64encode(self._random.randbytes(24)).decode()
        done = self._call("encrypt", f"transit/encrypt/{key}", {"plaintext": plaintext})
        if done is not None:
            data, began, ended = done
            self._journal.sealed.append((key, data["ciphertext"], plaintext))
            self._journal.used.append(Used(key, began, ended, data["key_version"]))

    def _decrypt(self) -> None:
        if not self._journal.sealed:
            return self._encrypt()
        key, ciphertext, plaintext = self._random.choice(self._journal.sealed)
        done = self._call("decrypt", f"transit/decrypt/{key}", {"ciphertext": ciphertext})
        if done is not None and done[0]["plaintext"] != plaintext:
            self._journal.refused.append(f"decrypt {key}: another plaintext")
        return None

    def _sign(self) -> None:
        text = b64encode(self._random.randbytes(24)).decode()
        done = self._call("sign", "transit/sign/pen", {"input": text})
        if done is not None:
            data, began, ended = done
            self._journal.signed.append((data["signature"], text))
            self._journal.used.append(Used("pen", began, ended, data["key_version"]))

    def _verify(self) -> None:
        if not self._journal.signed:
            return self._sign()
        signature, text = self._random.choice(self._journal.signed)
        done = self._call("verify", "transit/verify/pen", {"input": text, "signature": signature})
        if done is not None and done[0]["valid"] is not True:
            self._journal.refused.append("verify: a good signature is refused")
        return None


class Drill:
    """One server under load, and what is done to it."""

    def __init__(self, folder: Path, plan: Plan, seed: int) -> None:
        self._plan = plan
        self._random = random.Random(seed)
        self._server = DevServer(folder, workers=WORKERS)
        self._wire: Wire
        self.journal = Journal()
        self.rotations = dict.fromkeys(KEYS, 0)
        self.root_version = 0
        self.took = 0.0

    def run(self) -> list[str]:
        """The violations, none if all is well."""
        self._server.start()
        clients: list[Client] = []
        try:
            self._wire = Wire(self._server.port, self._server.token)
            self._prepare()
            share = self._plan.rate / CLIENTS
            clients = [
                Client(
                    Wire(self._server.port, self._server.token),
                    self.journal,
                    share,
                    self._random.getrandbits(32),
                )
                for _ in range(CLIENTS)
            ]
            began = time.monotonic()
            for client in clients:
                client.start()
            self._disturb(began)
            for client in clients:
                client.over.set()
            for client in clients:
                client.join(PATIENCE_SECONDS)
            self.took = time.monotonic() - began
            return self._violations()
        except AssertionError as error:
            return [f"{error}\n{self._server.tail()}"]
        finally:
            for client in clients:
                client.over.set()
            self._server.stop()

    def _prepare(self) -> None:
        self._ok("POST", "sys/mounts/transit", {"type": "transit"})
        for name, body in KEYS.items():
            self._ok("POST", f"transit/keys/{name}", body)

    def _disturb(self, began: float) -> None:
        """All rotations and kills, spread over the time and mixed."""
        plan = self._plan
        events: list[tuple[float, Callable[[], None]]] = []
        for count, work in (
            *((plan.rotations, self._rotation(name)) for name in KEYS),
            (plan.roots, self._rotate_root),
            (plan.kills, self._kill),
        ):
            step = plan.seconds / max(count, 1)
            events += [(step * (number + self._random.random()), work) for number in range(count)]
        for at, work in sorted(events, key=lambda event: event[0]):
            time.sleep(max(0.0, began + at - time.monotonic()))
            work()
        time.sleep(max(0.0, began + plan.seconds - time.monotonic()))

    def _rotation(self, name: str) -> Callable[[], None]:
        def rotate() -> None:
            began = time.monotonic()
            data = self._ok("POST", f"transit/keys/{name}/rotate", {})
            self.journal.used.append(Used(name, began, time.monotonic(), data["latest_version"]))
            self.rotations[name] += 1

        return rotate

    def _rotate_root(self) -> None:
        self._ok("POST", "sys/hsm/root/rotate", {})

        def complete() -> bool:
            data = self._ok("GET", "sys/hsm/root/rotate")
            self.root_version = data.get("version", 0)
            return bool(data.get("state") == "complete")

        processes.wait_for(complete, PATIENCE_SECONDS, "rotation of the root")

    def _kill(self) -> None:
        table = self._server.tree()
        children = [process.pid for process in table if process.parent == self._server.pid]
        workers = [process.pid for process in table if process.parent in children]
        self.journal.killed.append(kill_with_its_ports(self._random.choice(workers), self._server.port))

    def _ok(self, verb: str, path: str, body: object = None) -> dict[str, Any]:
        """A call of ours: sent again where the worker that had it was killed."""
        for _ in range(5):
            try:
                status, answer = self._wire.call(verb, path, body)
            except Lost as lost:
                self.journal.lost.append(lost)
                continue
            assert status in {200, 202, 204}, f"{verb} {path}: {status} {answer}"
            return answer.get("data") or {}
        raise AssertionError(f"{verb} {path} was lost five times")

    # -- what must hold ---------------------------------------------------------------------------

    def _violations(self) -> list[str]:
        journal = self.journal
        found = list(journal.refused)
        held = frozenset().union(*journal.killed)
        found += [
            f"lost: {lost.reason} on port {lost.port}" for lost in journal.lost if lost.port not in held
        ]
        found += backwards(journal.used)
        found += self._unreadable()
        for name, count in self.rotations.items():
            newest = self._ok("GET", f"transit/keys/{name}")["latest_version"]
            # A rotation whose answer was lost may have been done as well as not.
            if not 1 + count <= newest <= 1 + count + len(journal.lost):
                found.append(f"key {name} has version {newest} after {count} rotations")
        if self.root_version < 1 + self._plan.roots:
            found.append(f"the root has version {self.root_version} after {self._plan.roots} rotations")
        self._wire.close()
        sound, said = observe.verify(self._server, whole=True)
        return found if sound else [*found, f"the offline verifier: {said}"]

    def _unreadable(self) -> list[str]:
        found = []
        for key in ("soft", "hard"):
            mine = [
                (ciphertext, plaintext) for name, ciphertext, plaintext in self.journal.sealed if name == key
            ]
            for start in range(0, len(mine), BATCH):
                part = mine[start : start + BATCH]
                body = {"batch_input": [{"ciphertext": ciphertext} for ciphertext, _ in part]}
                results = self._ok("POST", f"transit/decrypt/{key}", body)["batch_results"]
                for (ciphertext, plaintext), result in zip(part, results, strict=True):
                    if result.get("plaintext") != plaintext:
                        found.append(f"{key} {ciphertext[:12]} does not decrypt: {result.get('error')}")
        for start in range(0, len(self.journal.signed), BATCH):
            batch = self.journal.signed[start : start + BATCH]
            body = {"batch_input": [{"input": text, "signature": signature} for signature, text in batch]}
            results = self._ok("POST", "transit/verify/pen", body)["batch_results"]
            found += [
                f"a signature does not verify: {each}" for each in results if each.get("valid") is not True
            ]
        return found

    def summary(self) -> str:
        """Figures of the run."""
        journal = self.journal
        count = sum(journal.counts.values())
        by_version = Counter((used.key, used.version) for used in journal.used)
        times = sorted(journal.seconds)
        counts = ", ".join(f"{name} {number}" for name, number in journal.counts.most_common())
        return (
            f"{count} requests in {self.took:.0f} s ({count / max(self.took, 1e-9):.0f}/s; {counts}); "
            f"rotations {self.rotations}, root at version {self.root_version}; "
            f"{len(journal.killed)} workers killed with {sum(map(len, journal.killed))} connections, "
            f"{len(journal.lost)} requests lost on them; {len(journal.sealed)} ciphertexts of "
            f"{len(by_version)} versions decrypted, {len(journal.signed)} signatures verified; "
            f"median {1000 * statistics.median(times or [0]):.1f} ms, "
            f"99 % within {1000 * (times[len(times) * 99 // 100] if times else 0):.1f} ms"
        )


def backwards(used: list[Used]) -> list[str]:
    """Requests that used an older version than one that had ended before they began."""
    found = []
    for key in {each.key for each in used}:
        mine = [each for each in used if each.key == key]
        ended = sorted(mine, key=lambda each: each.ended)
        at, newest = 0, 0
        for each in sorted(mine, key=lambda each: each.began):
            while at < len(ended) and ended[at].ended <= each.began:
                newest = max(newest, ended[at].version)
                at += 1
            if each.version < newest:
                found.append(f"{key}: version {each.version} was used after version {newest} was known")
    return found


def main() -> int:
    """Command line of scripts/rotation-drill."""
    parser = argparse.ArgumentParser(
        prog="scripts/rotation-drill", description=(__doc__ or "").split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("--rate", type=int, default=200, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rotations", type=int, default=20, help="of every key")
    parser.add_argument("--roots", type=int, default=5, help="rotations of the root")
    parser.add_argument("--kills", type=int, default=6, help="workers that get SIGKILL")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    plan = Plan(given.rate, given.seconds, given.rotations, given.roots, given.kills)
    with tempfile.TemporaryDirectory(prefix="keystead-rotation-") as name:
        drill = Drill(Path(name) / "server", plan, given.seed)
        found = drill.run()
    print(drill.summary())
    print("\n".join(found[:50]) if found else "nothing failed, nothing was lost, no version went back")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
