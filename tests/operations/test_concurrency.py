"""Rotation under load (T-31): nothing is lost, and only the newest version encrypts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.keys.rig import Rig

P = "aGVsbG8="
ROTATIONS = 15


def _load(rig: Rig, acknowledged: list[int], stop: threading.Event) -> list[str]:
    made, newest = [], 0
    while not stop.is_set():
        floor = acknowledged[-1]
        sealed = rig.run("encrypt", name="k", plaintext=P)
        # What was acknowledged before the request began is the least that may encrypt it.
        assert sealed["key_version"] >= max(floor, newest)
        newest = sealed["key_version"]
        assert rig.run("decrypt", name="k", ciphertext=sealed["ciphertext"]) == {"plaintext": P}
        made.append(sealed["ciphertext"])
    return made


@pytest.mark.parametrize("protection", ["software", "hsm"])
def test_rotating_under_load_loses_nothing(hsm_rig: Rig, protection: str) -> None:
    hsm_rig.create("k", protection=protection)
    other = hsm_rig.another()
    acknowledged = [1]
    stop = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(_load, rig, acknowledged, stop) for rig in (hsm_rig, other, hsm_rig, other)]
        try:
            for _ in range(ROTATIONS):
                # One by one: the other threads read the list while it grows.
                acknowledged.append(hsm_rig.run("keys.rotate", name="k")["latest_version"])  # noqa: PERF401
        finally:
            stop.set()
        made = [text for worker in workers for text in worker.result()]
    assert acknowledged == list(range(1, ROTATIONS + 2))
    assert len({text.split(":")[2][:16] for text in made}) == len(made)  # nonces
    for text in made[:: max(1, len(made) // 200)]:
        assert other.run("decrypt", name="k", ciphertext=text) == {"plaintext": P}


def test_encrypting_a_missing_key_from_many_threads_makes_one(rig: Rig) -> None:
    others = [rig, rig.another(), rig.another(), rig.another()]
    barrier = threading.Barrier(len(others))

    def work(mine: Rig) -> str:
        mine.store.refresh()
        call = mine.call("encrypt", name="new", plaintext=P)
        barrier.wait()
        outcome = call.operation.act(call)
        barrier.wait()  # nobody writes before all have looked
        with mine.store.transaction() as tx:
            data = outcome.write(tx).data  # type: ignore[union-attr]  # all saw no key
        return str((data or {})["ciphertext"])

    with ThreadPoolExecutor(len(others)) as pool:
        made = list(pool.map(work, others))
    for text in made:
        assert rig.run("decrypt", name="new", ciphertext=text) == {"plaintext": P}
