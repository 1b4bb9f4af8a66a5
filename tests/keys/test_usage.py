"""The 2^32 bound of AEAD keys: counts are high or exact, never low (T-04)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kms.errors import KmsError
from kms.keys import usage
from kms.keys.model import KeyUsage
from kms.keys.store import KEY_USAGE
from kms.keys.usage import LARGEST_DRAW, SMALLEST_DRAW, Allowance
from kms.storage import SqliteStore
from tests.keys.rig import Rig, StepClock
from tests.support import make_store

P = "aGVsbG8="


def drawn(store: SqliteStore, key: str = "k/1") -> int:
    row = store.reader().get(KEY_USAGE, key)
    return row.value.drawn if row else 0


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return make_store(tmp_path / "db")


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


def test_at_the_bound_nothing_is_encrypted(store: SqliteStore, clock: StepClock) -> None:
    with store.transaction() as tx:
        tx.insert(KEY_USAGE, "k/1", KeyUsage(drawn=2**32 - 3, drawn_at=0.0))
    allowance = Allowance(store, clock, "k/1")
    with pytest.raises(KmsError, match="2\\^32"):
        allowance.spend(4)
    allowance.spend(3)
    assert drawn(store) == 2**32
    with pytest.raises(KmsError, match="rotate the key"):
        allowance.spend(1)
    assert drawn(store) == 2**32


def test_half_way_it_warns(store: SqliteStore, clock: StepClock) -> None:
    with store.transaction() as tx:
        tx.insert(KEY_USAGE, "k/1", KeyUsage(drawn=2**31 - 2 * SMALLEST_DRAW, drawn_at=0.0))
    allowance = Allowance(store, clock, "k/1")
    allowance.spend(1)
    assert not allowance.worn
    allowance.spend(SMALLEST_DRAW)
    assert allowance.worn


def test_draws_grow_while_the_key_is_busy_and_shrink_after(store: SqliteStore, clock: StepClock) -> None:
    allowance = Allowance(store, clock, "k/1")
    sizes = []
    for _ in range(12):
        before = drawn(store)
        while drawn(store) == before:
            allowance.spend(SMALLEST_DRAW)
        sizes.append(drawn(store) - before)
    assert sizes[:3] == [SMALLEST_DRAW, 2 * SMALLEST_DRAW, 4 * SMALLEST_DRAW]
    assert sizes[-1] == LARGEST_DRAW
    clock.sleep(61)
    before = drawn(store)
    allowance.spend(allowance._left + 1)
    assert drawn(store) - before == SMALLEST_DRAW


def test_two_workers_never_share_an_allowance(store: SqliteStore, clock: StepClock) -> None:
    workers = [Allowance(store, clock, "k/1") for _ in range(4)]
    for _ in range(3):
        for worker in workers:
            worker.spend(700)
    assert drawn(store) >= 4 * 3 * 700


def test_every_item_of_a_batch_counts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.create("k")
    monkeypatch.setattr(usage, "BOUND", 12)
    rig.run("encrypt", name="k", batch_input=[{"plaintext": P}] * 10)
    rig.run("datakey", name="k", kind="wrapped")
    sealed = rig.run("encrypt", name="k", plaintext=P)["ciphertext"]
    for operation, args in (
        ("encrypt", {"plaintext": P}),
        ("rewrap", {"ciphertext": sealed}),
        ("datakey", {"kind": "plaintext"}),
    ):
        with pytest.raises(KmsError, match="rotate the key"):
            rig.run(operation, name="k", **args)
    assert rig.run("decrypt", name="k", ciphertext=sealed) == {"plaintext": P}
    rig.run("keys.rotate", name="k")
    assert rig.run("encrypt", name="k", plaintext=P)["key_version"] == 2


def test_a_worn_key_says_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "ALARM", 1)
    rig.create("k")
    assert "rotate" in rig.result("encrypt", name="k", plaintext=P).warnings[0]
