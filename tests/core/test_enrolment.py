"""Two tokens over one database: enrolment that is cut off, a token that was away, and one that must not be removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kms.errors import KmsError
from kms.hsm import HsmConfig, HsmGroup, KeySpec, Purpose, open_group
from kms.ids import new_cka_id
from kms.keys.enrolment import Enroller
from kms.keys.keyring import TERMS, Term, fresh_key, seal_forms, term_key
from kms.keys.lost import Losses
from kms.keys.removal import Remover
from kms.keys.roots import ACTIVE, DISCARDED, PLANNED, ROOTS, ROTATED
from kms.keys.tokens import ENROLLED, HSM_TOKENS, Enrolled
from tests.core.test_init import Bench, CrashError, initialize, run
from tests.hsm.parts import Pulled, eventually, further_token, private_token

MADE = (*ROTATED, Purpose.LOG_SIGN)


class TwoBench(Bench):
    """The parts of one process over two tokens of one module; the second is not enrolled."""

    configs: dict[str, HsmConfig]

    def restart(self) -> None:
        super().restart()
        self.hsm.close()
        if not isinstance(self.hsm, HsmGroup):
            first = private_token(self.folder / "two")
            self.configs = {"keystead": first, "second": further_token(first, "second")}
        pairs = list(self.configs.items())
        self.hsm = open_group(pairs, self.clock, Enrolled(self.store, "keystead"), Losses(self.store).refuse)
        self.enroller = Enroller(
            self.store, lambda: self.hsm, self.roots, self.clock, "keystead", self.instance
        )
        self.remover = Remover(
            self.store,
            lambda: self.hsm,
            self.clock,
            epoch=lambda: 1,
            lose=lambda _tx, _kept: None,
            named=lambda _ids: {"keys": []},
        )

    def active(self) -> Counter[tuple[str, str]]:
        """How many active roots there are, by token and purpose."""
        rows = self.store.reader().find(ROOTS, {"state": ACTIVE})
        return Counter((row.value.home, row.value.purpose) for row in rows)

    def versions(self) -> dict[str, int]:
        rows = self.store.reader().find(ROOTS, {"purpose": Purpose.ROOT_SEAL.value, "state": ACTIVE})
        return {row.value.home: row.value.version for row in rows}

    def forms(self) -> set[int]:
        return {len(row.value.forms) for row in self.store.reader().scan(TERMS)}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[TwoBench]:
    bench = TwoBench(tmp_path)
    initialize(bench)
    yield bench
    bench.close()


def whole(two: TwoBench) -> None:
    """Each token has one active root of each kind, and each term is sealed to both."""
    assert two.active() == Counter({(name, kind.value): 1 for name in two.configs for kind in MADE})
    assert two.forms() == {2}
    row = two.store.reader().get(HSM_TOKENS, "second")
    assert row is not None
    assert row.value.state == ENROLLED


def new_term(two: TwoBench) -> None:
    """As the keyring's rotation makes one."""
    number = max(row.value.term for row in two.store.reader().scan(TERMS)) + 1
    key = fresh_key(two.hsm, bytes)
    bare = Term(term=number, root="", root_version=0, sealed=b"", created=two.clock.now())
    made = seal_forms(two.hsm, two.roots.every(Purpose.ROOT_SEAL), two.instance(), bare, key)
    with two.store.transaction() as tx:
        tx.insert(TERMS, term_key(number), made)


@pytest.mark.parametrize("step", ["begin", "perform", "conclude"])
def test_an_enrolment_that_is_cut_off_is_finished(two: TwoBench, step: str) -> None:
    before = two.terms()
    with pytest.raises(CrashError):
        run(two, two.enroller.enrol("second"), crash_after=step)
    two.restart()
    rest = two.enroller.resume({"token": "second"})
    assert rest is not None
    run(two, rest)
    whole(two)
    assert two.terms() == before
    left = {row.value.state for row in two.store.reader().scan(ROOTS)}
    assert PLANNED not in left
    # What the attempt that died made is not left in the token.
    dead = [row.key for row in two.store.reader().find(ROOTS, {"state": DISCARDED})]
    assert bool(dead) == (step != "begin")
    two.roots.destroy_discarded()
    held = {cka_id.hex() for cka_id, _ in two.hsm.at("second").objects("")}
    assert not held & set(dead)
    with pytest.raises(KmsError, match="serves already"):
        two.enroller.enrol("second")
    assert two.enroller.late() == []


def test_a_failed_enrolment_can_be_begun_again(two: TwoBench) -> None:
    # With a first key comes the sentinel, by which a token is known to be gone.
    two.hsm.at("second").generate(Purpose.KEY_SIGN, KeySpec.ED25519, new_cka_id(), "first")
    files = Pulled(two.configs["second"])
    enrolment = two.enroller.enrol("second")
    files.vanish()
    with pytest.raises(KmsError):
        run(two, enrolment)
    assert two.store.reader().get(HSM_TOKENS, "second") is None
    assert two.terms()
    files.come_back()
    eventually(lambda: two.hsm.at("second").check())
    run(two, two.enroller.enrol("second"))
    whole(two)


def test_a_token_that_was_away_is_brought_up_to_date(two: TwoBench) -> None:
    run(two, two.enroller.enrol("second"))
    for gone, left in (("second", "keystead"), ("keystead", "second")):
        known = two.terms()
        version = two.versions()[left]
        files = Pulled(two.configs[gone])
        files.vanish()
        with pytest.raises(KmsError):
            two.hsm.at(gone).check()
        run(two, two.rotator.rotate())
        new_term(two)
        assert two.versions() == {left: version + 1, gone: version}
        assert two.enroller.late() == []
        files.come_back()
        eventually(lambda gone=gone: two.hsm.at(gone).check())  # type: ignore[misc]
        for work in two.enroller.late():
            run(two, work)
        assert set(two.versions().values()) == {version + 1}
        whole(two)
        assert two.enroller.late() == []
        assert known.items() <= two.terms().items()


def test_a_token_with_a_term_of_its_own_is_not_removed(two: TwoBench) -> None:
    run(two, two.enroller.enrol("second"))
    second, first = Pulled(two.configs["second"]), Pulled(two.configs["keystead"])
    second.vanish()
    with pytest.raises(KmsError):
        two.hsm.at("second").check()
    new_term(two)
    second.come_back()
    eventually(lambda: two.hsm.at("second").check())
    first.vanish()
    change = remove(two, "keystead")
    with pytest.raises(KmsError, match="sealed to that token alone"), two.store.transaction() as tx:
        change.write(tx)
    first.come_back()
    eventually(lambda: two.hsm.at("keystead").check())
    for work in two.enroller.late():
        run(two, work)
    first.vanish()
    change = remove(two, "keystead")
    with two.store.transaction() as tx:
        change.write(tx)
    assert {home for home, _ in two.active()} == {"second"}
    assert two.forms() == {1}
    two.restart()
    assert sorted(two.terms()) == [0, 1, 2]
    run(two, two.rotator.rotate())
    assert two.versions() == {"second": 2}


def remove(two: TwoBench, name: str) -> Any:
    return two.remover.remove(name)


def test_the_root_of_a_token_that_answers_comes_first(two: TwoBench) -> None:
    run(two, two.enroller.enrol("second"))
    rows = two.store.reader().find(ROOTS, {"purpose": Purpose.ROOT_WRAP_ENC.value, "state": ACTIVE})
    of = {row.value.home: bytes.fromhex(row.key) for row in rows}
    assert two.roots.candidates(Purpose.ROOT_WRAP_ENC) == [of["keystead"], of["second"]]
    assert two.roots.active(Purpose.ROOT_WRAP_ENC).cka_id == of["keystead"]
    Pulled(two.configs["keystead"]).vanish()
    with pytest.raises(KmsError):
        two.hsm.at("keystead").check()
    assert two.roots.candidates(Purpose.ROOT_WRAP_ENC) == [of["second"], of["keystead"]]
    assert two.roots.current(Purpose.ROOT_WRAP_ENC) == of["second"]
