"""Which tokens serve, and roots in a token that cannot carry all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.config import HsmSection, OtherToken
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, HsmGroup, Purpose
from kms.ids import new_cka_id
from kms.keys.lost import KnowingHsm, Losses
from kms.keys.roots import ACTIVE, DISCARDED, LOST, RETIRED, ROOTS, ROTATED, RootObject, discard, replace_lost
from kms.keys.rotation import COMPLETE, give_up_rotation
from kms.keys.tokens import (
    ENROLLED,
    HSM_TOKENS,
    REMOVED,
    enrolled,
    forget_tokens,
    name_first,
    open_tokens,
    put_token,
)
from kms.keys.tokens import HsmToken as TokenRow
from tests.core.test_init import Bench, CrashError, initialize, run
from tests.hsm.parts import eventually, further_token, private_token

EXCLUDED = ("CKM_EDDSA", "CKM_AES_KEY_WRAP_KWP", "CKM_AES_KEY_WRAP_PAD")


class PlainBench(Bench):
    """A token that neither wraps keys nor signs with Ed25519."""

    config: HsmConfig | None = None

    def restart(self) -> None:
        super().restart()
        self.hsm.close()
        if self.config is None:
            self.config = replace(private_token(self.folder / "plain"), exclude=EXCLUDED)
        self.hsm = Hsm.open(self.config, self.clock)


@pytest.fixture(name="bench")
def _bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    initialize(bench)
    yield bench
    bench.close()


@pytest.fixture(name="plain")
def _plain(tmp_path: Path) -> Iterator[Bench]:
    bench = PlainBench(tmp_path)
    initialize(bench)
    yield bench
    bench.close()


def verified(bench: Bench) -> str:
    """The row of the only log key, after it signed what its public key verifies."""
    (ref,) = bench.roots.log_keys()
    key = load_der_public_key(ref.public)
    assert isinstance(key, Ed25519PublicKey)
    signature = bench.roots.sign_log(ref.row, b"a checkpoint")
    key.verify(signature, b"a checkpoint")
    with pytest.raises(InvalidSignature):
        key.verify(signature, b"another checkpoint")
    return ref.row


def test_a_log_key_of_a_token_with_ed25519_signs_in_it(bench: Bench) -> None:
    row = bench.store.reader().get(ROOTS, verified(bench))
    assert row is not None
    assert (row.value.lacks, row.value.sealed) == ("", b"")
    with pytest.raises(KmsError) as error:
        bench.roots.sign_log(new_cka_id().hex(), b"a checkpoint")
    assert error.value.kind is ErrorKind.INTEGRITY


def test_a_log_key_is_sealed_where_the_token_has_no_ed25519(plain: Bench) -> None:
    seal = plain.roots.current(Purpose.ROOT_SEAL)
    row = plain.store.reader().get(ROOTS, verified(plain))
    assert row is not None
    assert (row.value.lacks, row.value.sealed_under) == ("CKM_EDDSA", seal.hex())
    assert [cka_id for cka_id, _ in plain.hsm.objects("keystead root")] == [seal]
    # Made again by the attempt that was cut off, it is the same key.
    again = [plain.roots.ensure(Purpose.LOG_SIGN, 2, "cut off") for _ in range(2)]
    assert again[0] == again[1]
    assert again[0].public not in {b"", row.value.public}
    with plain.store.transaction() as tx:
        discard(tx, "cut off")
    before = plain.terms()
    run(plain, plain.rotator.rotate())
    assert plain.terms() == before
    lacks = {
        found.value.purpose: found.value.lacks
        for found in plain.store.reader().find(ROOTS, {"state": ACTIVE})
    }
    assert {purpose for purpose, what in lacks.items() if what} == {
        each.value for each in (*ROTATED, Purpose.LOG_SIGN) if each is not Purpose.ROOT_SEAL
    }
    # The retired root still opens the seed of the log key.
    plain.restart()
    assert verified(plain) == row.key


def test_two_active_roots_of_one_token_are_refused(bench: Bench) -> None:
    twin = RootObject(purpose=Purpose.ROOT_SEAL.value, version=2, state=ACTIVE, created=bench.clock.now())
    with bench.store.transaction() as tx:
        tx.insert(ROOTS, new_cka_id().hex(), twin)
    with pytest.raises(KmsError) as error:
        bench.roots.current(Purpose.ROOT_SEAL)
    assert error.value.kind is ErrorKind.INTEGRITY
    assert "two active roots for root-seal" in error.value.detail


def test_a_recovery_loses_all_roots_but_its_own(bench: Bench) -> None:
    with pytest.raises(CrashError):
        run(bench, bench.rotator.rotate(), "begin")
    old = bench.roots.current(Purpose.ROOT_SEAL).hex()
    planned = bench.roots.ensure(Purpose.ROOT_SEAL, 2, "cut off").cka_id.hex()
    new = bench.roots.ensure(Purpose.ROOT_SEAL, 2).cka_id.hex()
    for _ in range(2):
        with bench.store.transaction() as tx:
            replace_lost(tx, Purpose.ROOT_SEAL, 2)
            give_up_rotation(tx, bench.clock.now())
    rows = bench.store.reader().find(ROOTS, {"purpose": Purpose.ROOT_SEAL.value})
    assert {row.key: row.value.state for row in rows} == {old: LOST, planned: LOST, new: ACTIVE}
    assert bench.roots.current(Purpose.ROOT_SEAL).hex() == new
    progress = bench.rotator.progress()
    assert (progress["state"], progress["failure"]) == (COMPLETE, "the HSM was lost meanwhile")
    assert RETIRED not in {row.value.state for row in rows}


def test_a_rotation_that_fails_discards_what_it_planned_and_says_why(bench: Bench) -> None:
    rotation = bench.rotator.rotate()
    assert rotation.begin is not None
    with bench.store.transaction() as tx:
        rotation.begin(tx)
    rotation.perform()
    bench.roots.ensure(Purpose.ROOT_SEAL, 2, "of another")
    with bench.store.transaction() as tx:
        rotation.abandon(tx, KmsError(ErrorKind.HSM_UNAVAILABLE, "it was pulled out"))
    dead = bench.store.reader().find(ROOTS, {"state": DISCARDED})
    assert sorted(row.value.purpose for row in dead) == sorted(ROTATED)
    progress = bench.rotator.progress()
    assert (progress["state"], progress["failure"]) == ("running", "it was pulled out")
    run(bench, bench.rotator.rotate())
    assert bench.rotator.progress()["failure"] == ""
    with bench.store.transaction() as tx:
        discard(tx, "of another")
    bench.roots.destroy_discarded()
    labels = [label for _, label in bench.hsm.objects("keystead root-seal")]
    assert sorted(labels) == ["keystead root-seal v1", "keystead root-seal v2"]


def strange() -> KmsError:
    return KmsError(ErrorKind.HSM_UNAVAILABLE, "a strange token")


def section(first: HsmConfig, *others: HsmConfig) -> HsmSection:
    further = tuple(
        OtherToken(
            module=each.module,
            token_label=each.token_label,
            pin_file=each.pin_file,
            softhsm2_conf=each.softhsm2_conf,
            relation="own-keys",
        )
        for each in others
    )
    return HsmSection(
        module=first.module,
        token_label=first.token_label,
        pin_file=first.pin_file,
        softhsm2_conf=first.softhsm2_conf,
        others=further,
    )


def test_the_tokens_that_are_opened_are_those_of_the_configuration(bench: Bench) -> None:
    first = private_token(bench.folder)
    second = further_token(first, "second")
    losses = Losses(bench.store)
    alone = open_tokens(section(first), bench.clock, bench.store, losses, strange)
    assert isinstance(alone, KnowingHsm)
    serial = alone.info.serial
    alone.close()
    with bench.store.transaction() as tx:
        name_first(tx, "keystead", serial, 1.0)
        name_first(tx, "renamed", "another", 2.0)
        put_token(tx, "second", TokenRow(state=ENROLLED, relation="own-keys", serial="2", since=3.0))
    assert enrolled(bench.store.reader()) == {"keystead", "second"}
    assert {row.value.home for row in bench.store.reader().scan(ROOTS)} == {"keystead"}
    with pytest.raises(KmsError, match='"second" is enrolled, but the configuration does not name it'):
        open_tokens(section(first), bench.clock, bench.store, losses, strange)
    both = open_tokens(section(first, second), bench.clock, bench.store, losses, strange)
    assert isinstance(both, HsmGroup)
    assert both.at("keystead").info.serial == serial
    assert both.at("second").info.serial != serial
    assert both.away() == {}
    both.close()
    with bench.store.transaction() as tx:
        forget_tokens(tx, 4.0)
    with bench.store.transaction() as tx:
        forget_tokens(tx, 5.0)
    rows = bench.store.reader().scan(HSM_TOKENS)
    assert {row.key: (row.value.state, row.value.since) for row in rows} == {
        "keystead": (REMOVED, 4.0),
        "second": (REMOVED, 4.0),
    }
    assert enrolled(bench.store.reader()) == frozenset()


class Swapped:
    """The token of a bench, away while an empty one has its label, its PIN and its place."""

    def __init__(self, bench: Bench) -> None:
        self.config = private_token(bench.folder)
        self.tokens = self.config.pin_file.parent / "tokens"
        self.away = self.tokens.with_name("ours")
        self.tokens.rename(self.away)
        self.tokens.mkdir()
        further_token(self.config, self.config.token_label, self.config.pin_file)

    def swap_back(self) -> None:
        self.tokens.rename(self.tokens.with_name("another"))  # in one step: a process may be writing there
        self.away.rename(self.tokens)


def test_who_sees_another_token_first_finds_ours_when_it_is_back(bench: Bench) -> None:
    """Its label and PIN are ours. A process that stayed with it would never look again: nothing fails there."""
    swapped = Swapped(bench)
    losses = Losses(bench.store)
    for _ in range(2):
        with pytest.raises(KmsError, match="a strange token"):
            open_tokens(section(swapped.config), bench.clock, bench.store, losses, strange)
    swapped.swap_back()
    found = open_tokens(section(swapped.config), bench.clock, bench.store, losses, strange)
    assert found.exists(bench.roots.current(Purpose.ROOT_SEAL))
    found.close()


def test_of_several_tokens_another_one_under_the_label_counts_as_away(bench: Bench) -> None:
    swapped = Swapped(bench)
    losses = Losses(bench.store)
    second = further_token(swapped.config, "second")
    with bench.store.transaction() as tx:
        name_first(tx, "keystead", "1", 1.0)
        put_token(tx, "second", TokenRow(state="enrolling", relation="own-keys", serial="2", since=3.0))
    both = open_tokens(section(swapped.config, second), bench.clock, bench.store, losses, strange)
    try:
        assert both.away() == {"keystead": "a strange token"}
        swapped.swap_back()
        seal = bench.roots.current(Purpose.ROOT_SEAL)
        eventually(lambda: both.seal(seal, b"a term", b""))  # the house looks every 8 seconds at least
        assert "keystead" not in both.away()
    finally:
        both.close()
