"""Calls that share a commit, on a live server: nobody else waits for the disk, and each worker keeps to its processor."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kms.storage.turn import LOCK_NAME
from tests.harness import processes
from tests.harness.dev import DevServer
from tests.harness.workers import one_to_each

PLAINTEXT = "bm90aGluZyBpbiBwYXJ0aWN1bGFy"


def prepare(server: DevServer) -> None:
    with server.api() as api:
        api.ok("POST", "sys/mounts/transit", {"type": "transit"})
        api.ok("POST", "transit/keys/soft", {"type": "aes256-gcm96", "protection": "software"})
        api.ok("POST", "sys/mounts/pki", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})
        root = {"common_name": "Root", "key_type": "ec", "ttl": "8760h"}
        api.ok("POST", "pki/root/generate/internal", root)
        api.ok("POST", "pki/roles/web", {"allow_any_name": True, "key_type": "ec"})
        api.ok("POST", "pki/roles/rsa", {"allow_any_name": True, "key_type": "rsa", "key_bits": 4096})


def issue(server: DevServer, role: str, name: str) -> str:
    with server.api() as api:
        serial: str = api.ok("POST", f"pki/issue/{role}", {"common_name": f"{name}.example.test"})[
            "serial_number"
        ]
        return serial


def test_a_worker_encrypts_while_another_process_writes(fresh_server: Callable[..., DevServer]) -> None:
    server = fresh_server(workers=1)
    prepare(server)
    with server.api() as api:  # the first use of a key draws an allowance of uses, which is a commit
        api.ok("POST", "transit/encrypt/soft", {"plaintext": PLAINTEXT})
    lock = next(Path(server.data).rglob(LOCK_NAME))
    with ThreadPoolExecutor(6) as pool, lock.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = [pool.submit(issue, server, "web", f"host-{number}") for number in range(6)]
        with server.api() as api:
            for _ in range(50):
                api.ok("POST", "transit/encrypt/soft", {"plaintext": PLAINTEXT})
        assert not any(one.done() for one in waiting), "a certificate left before its commit"
        fcntl.flock(other, fcntl.LOCK_UN)
        serials = {one.result(30) for one in waiting}
    with server.api() as api:
        assert serials <= set(api.ok("LIST", "pki/certs")["keys"])
    assert len(serials) == 6


def test_an_rsa_key_is_made_while_others_are_served(fresh_server: Callable[..., DevServer]) -> None:
    server = fresh_server(workers=1)
    prepare(server)
    made = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(issue, server, "rsa", f"slow-{number}") for number in range(2)]
        for one in slow:
            one.add_done_callback(lambda _: made.set())
        quick = 0
        while not made.is_set():
            issue(server, "web", f"quick-{quick}")
            quick += 1
        assert all(one.result(60) for one in slow)
    assert quick > 1, "nobody was served while a key was made"


def test_each_worker_keeps_to_its_own_processor(fresh_server: Callable[..., DevServer]) -> None:
    allowed = os.sched_getaffinity(0)
    server = fresh_server(workers=len(allowed))

    def placed() -> dict[int, set[int]]:
        lines = one_to_each(server, len(allowed))
        for line in lines:
            assert line.ask("GET", "/v1/sys/health")[0] == 200
        found = {line.pid(): os.sched_getaffinity(line.pid()) for line in lines}
        for line in lines:
            line.close()
        return found

    before = placed()
    assert sorted(next(iter(taken)) for taken in before.values()) == sorted(allowed)
    assert all(len(taken) == 1 for taken in before.values())
    (dead, its_processor), *others = before.items()
    processes.kill(dead)
    processes.wait_for(
        lambda: dead not in {process.pid for process in server.tree()}, 20, "the killed worker"
    )
    after = placed()
    assert dead not in after
    assert dict(others).items() <= after.items()
    assert its_processor in after.values()


def test_other_numbers_of_workers_are_left_to_the_kernel(fresh_server: Callable[..., DevServer]) -> None:
    allowed = os.sched_getaffinity(0)
    server = fresh_server(workers=len(allowed) + 1)
    assert all(os.sched_getaffinity(process.pid) == allowed for process in server.tree())
