"""Rotating the storage keyring over a real token: a new term for new rows, sealed by the HSM and to the custodians."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kms.app.rows import SEALED
from kms.errors import ErrorKind, KmsError
from kms.keys.keyring import TERMS, open_ending, open_keyring, open_term, term_key
from kms.keys.recovery import from_custodians, open_for_custodians
from kms.keys.terms import (
    DEFAULT_MAX_OPERATIONS,
    LEAST_INTERVAL_SECONDS,
    LEAST_MAX_OPERATIONS,
    KeyringRotator,
)
from kms.operation import Change
from kms.sensitive import ACCESS, Sensitive
from kms.system.instance import read_instance
from kms.system.shamir import combine
from tests.core.test_init import Bench, initialize
from tests.core.test_init import run as run_external


class Keyring:
    """A rotator over an initialised server."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        result = initialize(self.bench, shares=3, threshold=2)
        assert result.data is not None
        self.secret = Sensitive(combine([bytes.fromhex(share) for share in result.data["keys"]][:2]))
        self.sealed = 0
        self.adopted: dict[int, Sensitive] = {}
        self.announced = 0
        store = self.bench.store
        self.rotator = KeyringRotator(
            store,
            lambda: self.bench.hsm,
            self.bench.roots,
            self.bench.clock,
            instance=self.instance,
            sealed_under=lambda _term: self.sealed,
            adopt=self.adopted.__setitem__,
            announce=self.announce,
        )

    def instance(self) -> tuple[str, bytes]:
        row = read_instance(self.bench.store.reader())
        assert row is not None
        return row.value.id, row.value.recovery_public

    def announce(self) -> None:
        self.announced += 1

    def run(self, change: Change) -> None:
        with self.bench.store.transaction() as tx:
            change.write(tx)
        if change.after is not None:
            change.after()


@pytest.fixture(name="keyring")
def _keyring(tmp_path: Path) -> Iterator[Keyring]:
    keyring = Keyring(tmp_path)
    yield keyring
    keyring.bench.close()


def test_a_new_term_is_opened_by_the_hsm_and_by_the_custodians(keyring: Keyring) -> None:
    keyring.run(keyring.rotator.rotate())
    instance, _ = keyring.instance()
    reader = keyring.bench.store.reader()
    opened = open_term(keyring.bench.hsm, instance, reader, 2)
    row = reader.get(TERMS, term_key(2))
    assert opened is not None
    assert row is not None
    recovered = from_custodians(keyring.secret, instance, 2, row.value.recovery)
    assert opened.reveal(ACCESS) == recovered.reveal(ACCESS) == keyring.adopted[2].reveal(ACCESS)
    assert keyring.announced == 1
    keyring.sealed = 7
    status = keyring.rotator.status()
    assert (status["term"], status["encryptions"]) == (2, 7)


def test_a_rotation_that_another_overtook_changes_nothing(keyring: Keyring) -> None:
    first, second = keyring.rotator.rotate(), keyring.rotator.rotate()
    keyring.run(first)
    with pytest.raises(KmsError) as refused:
        keyring.run(second)
    assert refused.value.kind is ErrorKind.CONFLICT
    assert sorted(keyring.adopted) == [2]


def test_a_term_sealed_under_a_root_that_was_rotated_meanwhile_is_refused(keyring: Keyring) -> None:
    waiting = keyring.rotator.rotate()
    run_external(keyring.bench, keyring.bench.rotator.rotate())
    with pytest.raises(KmsError, match="rotated at the same time"):
        keyring.run(waiting)
    keyring.run(keyring.rotator.rotate())
    assert sorted(keyring.bench.terms()) == [0, 1, 2]


def test_settings_are_kept_and_raised_to_the_least_allowed(keyring: Keyring) -> None:
    assert keyring.rotator.settings().max_operations == DEFAULT_MAX_OPERATIONS
    keyring.run(keyring.rotator.configure({"max_operations": 1, "interval": 5}))
    settings = keyring.rotator.settings()
    assert (settings.max_operations, settings.interval) == (LEAST_MAX_OPERATIONS, LEAST_INTERVAL_SECONDS)
    keyring.run(keyring.rotator.configure({"max_operations": 2**40, "interval": 0}))
    settings = keyring.rotator.settings()
    assert (settings.max_operations, settings.interval) == (2**32 - 1, 0)


def test_it_is_due_by_use_or_age_and_never_when_switched_off(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not keyring.rotator.due()
    keyring.sealed = DEFAULT_MAX_OPERATIONS
    assert keyring.rotator.due()
    keyring.run(keyring.rotator.configure({"enabled": False}))
    assert not keyring.rotator.due()
    keyring.sealed = 0
    keyring.run(keyring.rotator.configure({"enabled": True, "interval": LEAST_INTERVAL_SECONDS}))
    assert not keyring.rotator.due()
    later = keyring.bench.clock.now() + LEAST_INTERVAL_SECONDS
    monkeypatch.setattr(keyring.bench.clock, "now", lambda: later)
    assert keyring.rotator.due()


def test_ended_terms_go_and_an_old_copy_of_one_changes_nothing(keyring: Keyring) -> None:
    bench, (instance, _) = keyring.bench, keyring.instance()
    old = bench.store.reader().get(TERMS, term_key(1))
    assert old is not None
    keyring.run(keyring.rotator.rotate(anew=True))
    adopted = keyring.adopted[2]
    bench.store.sealer().adopt(2, adopted)
    with pytest.raises(KmsError, match="still under older terms"):
        keyring.run(keyring.rotator.end_before(2))
    _seal_again(bench)
    keyring.run(keyring.rotator.end_before(2))
    keyring.run(keyring.rotator.rotate())  # a later one repeats it
    with bench.store.transaction() as tx:
        tx.insert(TERMS, old.key, old.value)  # a thief's copy: its root still opens it
    opened = open_keyring(bench.hsm, instance, bench.store.reader())
    assert opened.endings == {0: 0, 1: 0, 2: 2, 3: 2}
    recovered = open_for_custodians(keyring.secret, instance, bench.store.reader().scan(TERMS))
    assert recovered.endings == opened.endings
    assert {t: k.reveal(ACCESS) for t, k in recovered.keys.items()} == {
        t: k.reveal(ACCESS) for t, k in opened.keys.items()
    }
    assert open_ending(bench.hsm, instance, bench.store.reader(), 0) == 2


def test_a_claim_of_an_ending_that_the_hsm_did_not_seal_is_refused(keyring: Keyring) -> None:
    bench, (instance, _) = keyring.bench, keyring.instance()
    with bench.store.transaction() as tx:
        row = tx.get(TERMS, term_key(1))
        assert row is not None
        tx.replace(TERMS, row, msgspec.structs.replace(row.value, ended=1))
    with pytest.raises(KmsError) as refused:
        open_ending(bench.hsm, instance, bench.store.reader(), 0)
    assert refused.value.kind is ErrorKind.INTEGRITY


def _seal_again(bench: Bench) -> None:
    with bench.store.transaction() as tx:
        for table in SEALED:
            for row in tx.scan(table):
                tx.replace(table, row, row.value)
