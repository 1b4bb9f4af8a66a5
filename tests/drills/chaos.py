"""Kills the server at random instants under load, and checks the invariants after each kill.

Each round: clients work; a random victim gets SIGKILL; the server comes back by itself, or is started again
when its first process died; the clients rest; what they were told is compared with what is there. The
number of requests in flight at the kill is printed per operation. A run in which fewer than 60 % of the
kills hit a write proves too little, and fails.
"""

from __future__ import annotations

import argparse
import random
import re
import secrets
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.drills import observe
from tests.drills.load import Load
from tests.harness import log, processes, token
from tests.harness.api import Api
from tests.harness.dev import DevServer
from tests.invariants import Ledger, Observed, broken

CRASHES = re.compile(r"pid:\d+\) was sent SIG(?:SEGV|ABRT|BUS|ILL|FPE)")
VICTIMS = {"worker": 50, "jobs": 10, "arbiter": 10, "supervisor": 10, "all": 20}  # weights
RECOVERY_SECONDS = 30
SENTINEL = b"keystead-sentinl".hex()  # the key that health checks use; it has no row
EPISODE = 25  # kills of one server; then a fresh one, so that looking at everything stays cheap
SAMPLES = 20
MUST_HIT = 0.6


@dataclass
class Kill:
    """One kill and what it met."""

    victim: str
    in_flight: Counter[str]
    seconds_down: float


class Chaos:
    """One server, its clients, and the killer."""

    def __init__(self, folder: Path, seed: int, workers: int, clients: int) -> None:
        self.random = random.Random(seed)
        self.server = DevServer(folder, workers=workers)
        self.ledger = Ledger()
        self.kills: list[Kill] = []
        self.checkpoints: list[tuple[int, str]] = []
        self._seed = seed
        self._workers = workers
        self._clients = clients
        self._observer = observe.Observer(self.server, self.ledger, set())
        self._checked = 0
        self._log = log.Reader(self.server.audit)
        self.nameless = 0

    def run(self, rounds: int) -> list[str]:
        """All rounds; the violations, none if all is well."""
        self.server.start()
        load = None
        try:
            with self.server.api() as api:
                self._prepare(api)
            load = Load(self._caller, self.ledger, self._clients, self._seed)
            for number in range(1, rounds + 1):
                self._round(load, number)
                found = self._check(whole=number == rounds)
                if found:
                    return found
            return []
        except (AssertionError, httpx.HTTPError) as error:
            return [f"{error}\n{self.server.tail()}"]
        finally:
            if load is not None:
                load.finish()
            self.server.stop()

    def _caller(self) -> Api:
        """A client of the load. Who checks uses one of the server's own, at full speed."""
        return self.server.api()

    def _prepare(self, api: Api) -> None:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
        made = api.ok(
            "POST",
            "pki/root/generate/internal",
            {"common_name": "Chaos Root", "key_type": "ec", "ttl": "8760h"},
        )
        self._observer.authorities.add(observe.plain(made["serial_number"]))
        role = {
            "allowed_domains": "svc.example.test",
            "allow_subdomains": True,
            "key_type": "ec",
            "max_ttl": "24h",
        }
        api.ok("POST", "pki/roles/mesh", role)

    def _round(self, load: Load, number: int) -> None:
        load.go()
        time.sleep(self.random.uniform(0.05, 0.5))
        victim = self.random.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        targets = self._targets(victim)
        # Of a rare lull, the next busy instant; never an instant that we choose by the operation.
        deadline = time.monotonic() + 0.5
        while not (met := self.ledger.in_flight()) and time.monotonic() < deadline:
            time.sleep(0.001)
        killed = time.monotonic()
        for pid in targets:
            processes.kill(pid, signal.SIGKILL)
        if self.server.pid in targets:
            self.server.after_kill()
            self.server.start()
        processes.wait_for(
            self._whole, RECOVERY_SECONDS, lambda: f"recovery after {victim}\n{self.server.tail()}"
        )
        self.kills.append(Kill(victim, met, time.monotonic() - killed))
        load.rest()
        shown = ", ".join(f"{name} {count}" for name, count in sorted(met.items())) or "nothing"
        print(
            f"{number:5} kill {victim:10} in flight: {shown:60} back in {self.kills[-1].seconds_down:4.1f} s"
        )

    def _targets(self, victim: str) -> list[int]:
        table = self.server.tree()
        root = self.server.pid
        children = [process.pid for process in table if process.parent == root]
        workers = [process.pid for process in table if process.parent in children]
        arbiters = sorted({process.parent for process in table if process.pid in workers})
        jobs = [pid for pid in children if pid not in arbiters]
        chosen = {
            "worker": [self.random.choice(workers)] if workers else [],
            "jobs": jobs,
            "arbiter": arbiters,
            "supervisor": [root],
            "all": [process.pid for process in table],
        }[victim]
        return chosen or [root]

    def _whole(self) -> bool:
        """All processes are there, and the server answers."""
        return len(self.server.tree()) >= self._workers + 3 and self.server.answers()

    def _check(self, *, whole: bool) -> list[str]:
        with self.server.api() as api:
            self._settle()
            samples = self.ledger.samples[self._checked :]
            self._checked = len(self.ledger.samples)
            if whole:
                samples = list(self.ledger.samples)
            else:
                samples = samples + self.random.sample(
                    self.ledger.samples, min(SAMPLES, len(self.ledger.samples))
                )
            seen = self._observer.look(api, samples, whole=whole)
            # Meanwhile the jobs process may have begun work of its own, such as a new CRL.
            self._log = log.Reader(self.server.audit) if whole else self._log
            seen.log = self._settle()
        self._look_at_token(seen)
        self._look_at_checkpoints(seen)
        found = broken(self.ledger, seen)
        sound, said = observe.verify(self.server, whole=whole)
        if not sound:
            found.append(f"I9: the offline verifier: {said}")
        # We send SIGKILL only: whoever died of another signal crashed by itself.
        crashed = CRASHES.findall(self.server.errors.read_text(errors="replace"))
        if crashed:
            found.append(f"a process crashed: {', '.join(crashed)}")
        return found

    def _settle(self) -> list[log.Entry]:
        """The log, once the intents of dead processes are closed, and what these committed is in it."""
        entries: list[log.Entry] = []

        def settled() -> bool:
            with closing(sqlite3.connect(f"file:{self._database()}?mode=ro", uri=True)) as database:
                owed = {row[0] for row in database.execute("SELECT key FROM audit_outbox")}
            entries[:] = self._log.entries()
            intents = {entry.id for entry in entries if entry.phase == "intent"}
            closed = {entry.id for entry in entries if entry.phase == "outcome"}
            return intents <= closed and owed <= {f"{entry.id}/{entry.phase}" for entry in entries}

        processes.wait_for(settled, RECOVERY_SECONDS, "recovery has written what dead processes left open")
        return entries

    def _look_at_token(self, seen: Observed) -> None:
        """I5: what the log and the table of roots say must be in the token, and what is."""
        with closing(sqlite3.connect(f"file:{self._database()}?mode=ro", uri=True)) as database:
            roots = database.execute("SELECT key, state FROM root_objects").fetchall()
        # Of an attempt at a rotation that was cut off, or lost against another, an object may be left.
        seen.rows = {key: state in {"active", "retired"} for key, state in roots}
        seen.rows[SENTINEL] = True
        outcomes = {entry.id: entry for entry in seen.log if entry.phase == "outcome"}
        for entry in seen.log:
            if entry.phase == "intent":
                closed = outcomes.get(entry.id)
                named = f"{entry.subject.get('hsm_objects', '')},{entry.subject.get('cka_id', '')}"
                for name in filter(None, named.split(",")):
                    seen.rows[name] = closed is not None and closed.closed_well
        found = token.objects(self.server)
        seen.objects = {each.id for each in found if each.id}
        # A half whose id was not written yet when its process died: nobody can name or use it, and nobody
        # can tell whose it is, so it stays. There cannot be more of them than kills.
        self.nameless = sum(not each.id for each in found)
        if self.nameless > len(self.kills):
            seen.objects.add("without an id")

    def _database(self) -> Path:
        return next((self.server.data / "storage").glob("*.db"))

    def _look_at_checkpoints(self, seen: Observed) -> None:
        """I9: every checkpoint that was ever seen from outside still fits the leaves."""
        newest = log.checkpoint(self.server.audit)
        if newest[0] and (not self.checkpoints or self.checkpoints[-1] != newest):
            self.checkpoints.append(newest)
        roots = log.roots(self.server.audit, [size for size, _ in self.checkpoints])
        seen.checkpoints = [(size, roots.get(size, ""), said) for size, said in self.checkpoints]


def summary(kills: list[Kill]) -> tuple[str, float]:
    """What the kills met, as text, and the share of kills that hit a write."""
    victims, met = Counter(kill.victim for kill in kills), Counter[str]()
    for kill in kills:
        met.update(kill.in_flight)
    hit = sum(bool(kill.in_flight) for kill in kills) / max(len(kills), 1)
    slowest = max((kill.seconds_down for kill in kills), default=0.0)
    text = (
        f"{len(kills)} kills ({', '.join(f'{name} {count}' for name, count in victims.most_common())}), "
        f"{hit:.0%} hit a write; in flight: {', '.join(f'{name} {count}' for name, count in met.most_common())}; "
        f"slowest recovery {slowest:.1f} s"
    )
    return text, hit


def episodes(
    folder: Path, kills: int, seed: int, workers: int = 4, clients: int = 8
) -> tuple[list[str], list[Kill]]:
    """Runs of at most EPISODE kills, each with a server of its own; stops at the first violation.

    Returns:
        The violations, and all kills.
    """
    done: list[Kill] = []
    while len(done) < kills:
        number = len(done) // EPISODE
        chaos = Chaos(folder / f"episode-{number}", seed + number, workers, clients)
        found = chaos.run(min(EPISODE, kills - len(done)))
        done += chaos.kills
        if found:
            return found, done
        shutil.rmtree(chaos.server.folder)
    return [], done


def main() -> int:
    """Command line of scripts/chaos."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("kills", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="a folder for the data of a server that broke an invariant")
    given = parser.parse_args()
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="keystead-chaos-") as name:
        found, kills = episodes(
            given.keep or Path(name), given.kills, given.seed, given.workers, given.clients
        )
    text, hit = summary(kills)
    print(text)
    print("\n".join(found[:50]) if found else "all invariants hold")
    if hit < MUST_HIT:
        print(f"only {hit:.0%} of the kills hit a write; this proves too little")
    return 1 if found or hit < MUST_HIT else 0


if __name__ == "__main__":
    sys.exit(main())
