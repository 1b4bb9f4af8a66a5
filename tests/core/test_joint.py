"""Keys that are born for several tokens, over two (and three) real tokens in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import AwayError, Hsm, KeySpec, Purpose, Scheme, Wrapped, joint
from kms.ids import CkaId, new_cka_id
from kms.keys import KeyService
from kms.keys import joint as making
from kms.keys.joint import SHARED, Joiner, in_each, shared_roots
from kms.keys.keyring import open_keyring
from kms.keys.lifecycle import Wish
from kms.keys.lost import LostKeyError, lose_keys
from kms.keys.model import WrappedMaterial, to_ref
from kms.keys.roots import ACTIVE, DISCARDED, LOST, PLANNED, RETIRED
from kms.keys.rotation import RootRotator
from kms.keys.store import JOINT_ROOTS, KEY_VERSIONS, version_key
from kms.keys.tokens import HSM_TOKENS, OWN_KEYS, HsmToken, put_token
from kms.operation import Change, External
from kms.storage import RowSealer
from tests.core.test_enrolment import TwoBench
from tests.core.test_init import CrashError, initialize, run
from tests.hsm.parts import Pulled, StepClock, eventually, further_token

MOUNT, P = "mount-1", b"card 4711"


class JointBench(TwoBench):
    """With keys."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        initialize(self)
        self.open()

    def restart(self) -> None:
        super().restart()
        self.keys = KeyService(self.store, lambda: self.hsm, self.roots, "instance", self.clock)
        self.joiner = Joiner(self.store, lambda: self.hsm, self.roots, self.clock)

    def open(self) -> None:
        """As a server unseals itself."""
        keyring = open_keyring(self.hsm, self.instance(), self.store.reader())
        self.store.unlock(RowSealer(self.instance(), keyring.keys, ended=keyring.ended))

    def do(self, outcome: Any) -> dict[str, Any]:
        """Run what a verb returns."""
        if isinstance(outcome, Change):
            with self.store.transaction() as tx:
                return dict(outcome.write(tx).data or {})
        if isinstance(outcome, External):
            return dict(run(self, outcome).data or {})
        return dict(outcome.data or {})

    def settle(self) -> None:
        """What the jobs process does until nothing is due."""
        for _ in range(50):
            works = self.enroller.due()
            if not works:
                return
            for work in works:
                try:
                    run(self, work)
                except KmsError as error:
                    # While a lost token of the module is looked for, sessions end (kms.hsm.members): the next attempt does it.
                    if error.kind is not ErrorKind.HSM_UNAVAILABLE:
                        raise
        raise AssertionError("something is due for ever")

    def make(self, name: str, **wish: Any) -> dict[str, Any]:
        return self.do(
            self.keys.create(MOUNT, name, Wish(**{"protection": "hsm", "multi_token": True, **wish}))
        )

    def refs(self, name: str, number: int = 1) -> list[Wrapped]:
        """The key of a version, and its HMAC key where it has one."""
        row = self.keys.core.row(MOUNT, name)
        assert row is not None
        version = self.store.reader().get(KEY_VERSIONS, version_key(row.value.id, number))
        assert version is not None
        self.keys.core.envelope.check(row.value, version.value)
        parts = [version.value.material, version.value.mac]
        refs = [to_ref(part) for part in parts if isinstance(part, WrappedMaterial)]
        return [ref for ref in refs if isinstance(ref, Wrapped)]

    def use(self, name: str, number: int = 1) -> None:
        """Every key of a version does its work in some token."""
        for ref in self.refs(name, number):
            if ref.purpose is Purpose.KEY_ENC:
                sealed = self.hsm.encrypt(ref, bytes(12), P, b"")
                assert self.hsm.decrypt(ref, bytes(12), sealed, b"") == P
            elif ref.purpose is Purpose.KEY_MAC:
                assert self.hsm.mac(ref, "sha256", P)
            else:
                scheme = Scheme.ECDSA if ref.spec is KeySpec.EC_P256 else Scheme.RSA_PSS_SHA256
                assert self.hsm.sign(ref, scheme, bytes(32))

    def lasting(self) -> list[tuple[str, tuple[str, ...]]]:
        """Without attempts that were disturbed (see `settle`)."""
        return [found for found in self.states() if found[0] != DISCARDED]

    def states(self) -> list[tuple[str, tuple[str, ...]]]:
        rows = self.store.reader().find(JOINT_ROOTS, {"purpose": SHARED[0].value})
        return sorted((row.value.state, row.value.tokens) for row in rows)


@pytest.fixture(autouse=True)
def _restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting, however often a lost token disturbs an attempt."""
    monkeypatch.setattr(making, "QUICK_ATTEMPTS", 50)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[JointBench]:
    bench = JointBench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def sharing(two: JointBench) -> JointBench:
    """Both enrolled, and the shared roots made."""
    run(two, two.enroller.enrol("second"))
    two.settle()
    assert two.lasting() == [(ACTIVE, ("keystead", "second"))]
    return two


def away(two: JointBench, name: str) -> Pulled:
    files = Pulled(two.configs[name])
    files.vanish()
    with pytest.raises(KmsError):
        two.hsm.at(name).check()
    return files


def back(two: JointBench, files: Pulled, name: str) -> None:
    files.come_back()
    eventually(lambda: two.hsm.at(name).check())


@pytest.mark.parametrize("kind", ["aes256-gcm96", "ecdsa-p256", "rsa-2048", "hmac"])
def test_either_token_does_with_the_key(sharing: JointBench, kind: str) -> None:
    two = sharing
    shown = two.make("k", type=kind)
    assert (shown["multi_token"], shown["multi_token_versions"]) == (True, [1])
    for number, gone in enumerate(two.configs, 1):
        files = away(two, gone)
        two.use("k")
        # A version that is born now is there when the other comes back: nothing has to follow.
        assert two.do(two.keys.rotate(MOUNT, "k"))["multi_token_versions"][-1] == number + 1
        two.use("k", number + 1)
        back(two, files, gone)
        assert two.enroller.due() == []
    # Each blob opens in each token, and is one blob.
    for name in two.configs:
        for number in (1, 2, 3):
            for ref in two.refs("k", number):
                assert ref.joint
                assert two.hsm.at(name).exists(ref.wrapping)


def test_a_key_without_it_stays_where_it_was_born(sharing: JointBench) -> None:
    two = sharing
    two.make("k", multi_token=False)
    assert not any(ref.joint for ref in two.refs("k"))
    away(two, "keystead")
    with pytest.raises(AwayError, match='"keystead"'):
        two.use("k")


def test_what_cannot_be_born_for_several_is_refused(two: JointBench) -> None:
    with pytest.raises(KmsError, match="needs two enrolled HSM tokens"):
        two.make("k")
    run(two, two.enroller.enrol("second"))
    with pytest.raises(KmsError, match="is not made yet; try again") as waits:
        two.make("k")
    assert waits.value.kind is ErrorKind.HSM_UNAVAILABLE
    files = away(two, "second")
    assert two.joiner.due() == []
    with pytest.raises(KmsError, match='the HSM token "second" does not answer'):
        two.make("k")
    back(two, files, "second")
    two.settle()
    two.make("k")
    for wish in (
        {"type": "ed25519"},
        {"type": "aes256-cmac"},
        {"type": "rsa-2048", "purpose": "decrypt", "hash_function": "SHA1"},
        {"type": "ecdsa-p256", "purpose": "derive"},
    ):
        with pytest.raises(KmsError, match="lives in one HSM token"):
            two.make("other", **wish)
    with pytest.raises(KmsError, match="for keys of protection hsm"):
        two.make("other", protection="software")


def test_a_token_that_lacks_the_mechanism_is_named(two: JointBench) -> None:
    two.configs["second"] = replace(two.configs["second"], exclude=("CKM_ECDH1_DERIVE",))
    two.restart()
    two.open()
    run(two, two.enroller.enrol("second"))
    two.settle()
    assert two.states() == []
    with pytest.raises(KmsError, match='"second" has no CKM_ECDH1_DERIVE'):
        two.make("k")


@pytest.mark.parametrize("step", ["begin", "perform", "conclude"])
def test_a_crash_while_they_are_made(two: JointBench, step: str) -> None:
    run(two, two.enroller.enrol("second"))
    (work,) = two.enroller.due()
    with pytest.raises(CrashError):
        run(two, work, crash_after=step)
    two.restart()
    two.open()
    assert [state for state, _ in two.states()] == [PLANNED]
    rest = two.enroller.resume(dict(work.intent))
    assert rest is not None
    assert run(two, rest).partial
    dead = {row.key for row in two.store.reader().scan(JOINT_ROOTS)}
    two.settle()
    assert [state for state, _ in two.states()] == [ACTIVE, DISCARDED]
    for name in two.configs:
        assert not dead & {cka_id.hex() for cka_id, _ in two.hsm.at(name).objects("")}
    two.make("k")
    two.use("k")
    # The rows of the dead go when nothing can follow any more.
    two.joiner = replace(two.joiner, clock=Later())
    assert two.joiner.tidy() == len(SHARED)
    assert [state for state, _ in two.states()] == [ACTIVE]


class Later(SystemClock):
    """In two hours."""

    def now(self) -> float:
        return super().now() + 7200


def test_a_token_that_is_lost_while_they_are_made(two: JointBench) -> None:
    run(two, two.enroller.enrol("second"))
    (work,) = two.enroller.due()
    files = away(two, "second")
    with pytest.raises(KmsError):
        run(two, work)
    assert [state for state, _ in two.states()] == [DISCARDED]
    # What the one that answers holds of them goes at once, the rest when the other is back.
    two.joiner = replace(two.joiner, clock=Later())
    two.joiner.tidy()
    assert [state for state, _ in two.states()] == [DISCARDED]
    back(two, files, "second")
    two.settle()
    two.joiner.tidy()
    assert [state for state, _ in two.states()] == [ACTIVE]


def test_a_rotation_of_the_root_takes_them_along(sharing: JointBench) -> None:
    two = sharing
    two.make("k")
    files = away(two, "second")
    run(two, two.rotator.rotate())
    assert two.enroller.due() == []
    # Until both answer, the old one serves.
    two.do(two.keys.rotate(MOUNT, "k"))
    assert two.refs("k", 2)[0].wrapping == two.refs("k")[0].wrapping
    back(two, files, "second")
    two.settle()
    assert [state for state, _ in two.lasting()] == [ACTIVE, RETIRED]
    two.do(two.keys.rotate(MOUNT, "k"))
    assert two.refs("k", 3)[0].wrapping != two.refs("k")[0].wrapping
    # What is still under an old shared root counts with what is under the tokens' own.
    asked: list[str] = []

    def under(ids: list[str]) -> int:
        asked.extend(ids)
        return len(ids)

    counting = RootRotator(two.store, lambda: two.hsm, two.roots, two.instance, two.clock, under)
    counting.progress()
    assert two.refs("k")[0].wrapping.hex() in asked
    assert two.refs("k", 3)[0].wrapping.hex() not in asked
    files = away(two, "keystead")
    for number in (1, 2, 3):
        two.use("k", number)
    back(two, files, "keystead")


def test_a_later_token_gets_what_is_born_from_then_on(sharing: JointBench) -> None:
    two = sharing
    two.make("k")
    two.configs["third"] = further_token(two.configs["keystead"], "third")
    two.restart()
    two.open()
    run(two, two.enroller.enrol("third"))
    two.settle()
    names = ("keystead", "second", "third")
    assert two.lasting() == [(ACTIVE, names), (RETIRED, ("keystead", "second"))]
    two.do(two.keys.rotate(MOUNT, "k"))
    gone = [away(two, name) for name in names[:2]]
    two.use("k", 2)
    with pytest.raises(AwayError):
        two.use("k", 1)
    for files, name in zip(gone, names, strict=False):
        back(two, files, name)
    two.use("k", 1)


def test_a_lost_token_takes_no_shared_key_along(sharing: JointBench) -> None:
    two = sharing
    two.make("k")
    two.make("alone", multi_token=False)
    away(two, "keystead")
    change = two.remover.remove("keystead")
    with two.store.transaction() as tx:
        change.write(tx)
    two.use("k")
    with pytest.raises(LostKeyError):
        two.use("alone")
    # One token is left: versions go on under the shared root, and new keys of the kind need another token.
    assert two.do(two.keys.rotate(MOUNT, "k"))["multi_token_versions"] == [1, 2]
    with pytest.raises(KmsError, match="needs two enrolled HSM tokens"):
        two.make("other")
    # The next token does not share a root that the lost one has.
    two.configs["third"] = further_token(two.configs["second"], "third")
    two.restart()
    two.open()
    run(two, two.enroller.enrol("third"))
    two.settle()
    assert two.lasting() == [(ACTIVE, ("second", "third")), (RETIRED, ("keystead", "second"))]


def test_when_all_tokens_are_lost_the_key_says_so_and_goes_on_in_one(sharing: JointBench) -> None:
    two = sharing
    two.make("k")
    with two.store.transaction() as tx:
        lose_keys(tx, 1)
        for name in ("keystead", "second"):
            lost = HsmToken(state="removed", relation=OWN_KEYS, serial="", since=0.0)
            put_token(tx, name, lost)
    assert [state for state, _ in two.lasting()] == [LOST]
    with pytest.raises(LostKeyError):
        two.use("k")
    # Its next version lives in the token of today alone, and the answer shows that.
    assert two.do(two.keys.rotate(MOUNT, "k"))["multi_token_versions"] == [1]
    two.use("k", 2)
    with two.store.transaction() as tx:
        lose_keys(tx, 2)  # a second loss finds nothing new
    assert two.store.reader().get(HSM_TOKENS, "keystead") is not None


def test_a_token_that_is_removed_while_they_are_made(two: JointBench) -> None:
    run(two, two.enroller.enrol("second"))
    (work,) = two.enroller.due()
    assert work.begin is not None
    with two.store.transaction() as tx:
        work.begin(tx)
    work.perform()
    with two.store.transaction() as tx:
        row = tx.get(HSM_TOKENS, "second")
        assert row is not None
        put_token(tx, "second", HsmToken(state="removed", relation=OWN_KEYS, serial="", since=0.0))
    with pytest.raises(KmsError, match="meanwhile"), two.store.transaction() as tx:
        work.conclude(tx, None)
    with two.store.transaction() as tx:
        put_token(tx, "second", row.value)
        work.abandon(tx, KmsError(ErrorKind.CONFLICT, "removed"))
    with pytest.raises(KmsError, match="given up"), two.store.transaction() as tx:
        work.conclude(tx, None)


def test_nothing_is_due_while_the_root_is_rotated(two: JointBench) -> None:
    run(two, two.enroller.enrol("second"))
    with pytest.raises(CrashError):
        run(two, two.rotator.rotate(), crash_after="begin")
    assert two.joiner.due() == []


def test_the_id_names_one_root_in_each_token(sharing: JointBench) -> None:
    (row,) = sharing.store.reader().find(JOINT_ROOTS, {"purpose": Purpose.ROOT_WRAP_ENC.value})
    cka_id = CkaId(bytes.fromhex(row.key))
    assert all(sharing.hsm.at(name).exists(cka_id) for name in sharing.configs)
    assert sharing.keys.core.envelope is not None


def test_a_module_that_is_opened_anew_in_between(two: JointBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves of an agreement end with their connection: the attempt fails, and the next one does it."""
    run(two, two.enroller.enrol("second"))
    (work,) = two.enroller.due()
    give = joint._give

    def lose_the_second(token: Hsm, points: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
        given = give(token, points)
        files = away(two, "second")
        back(two, files, "second")
        return given

    monkeypatch.setattr(joint, "_give", lose_the_second)
    with pytest.raises(KmsError, match="opened anew meanwhile"):
        run(two, work)
    monkeypatch.undo()
    two.settle()
    assert [state for state, _ in two.states()] == [ACTIVE, DISCARDED]
    with pytest.raises(KmsError, match="are not shared by tokens"):
        joint.make_joint([two.hsm.at("")], Purpose.ROOT_SEAL, new_cka_id(), "seal")
    (row,) = two.store.reader().find(JOINT_ROOTS, {"purpose": Purpose.ROOT_WRAP_ENC.value, "state": ACTIVE})
    with pytest.raises(KmsError, match="already holds"):
        joint.make_joint([two.hsm.at("")], Purpose.ROOT_WRAP_ENC, CkaId(bytes.fromhex(row.key)), "twice")


def test_who_shares_is_told(two: JointBench) -> None:
    reader = two.store.reader
    assert shared_roots(reader()) == {"ready": False, "tokens": [], "not_in": []}
    run(two, two.enroller.enrol("second"))
    assert shared_roots(reader()) == {"ready": False, "tokens": [], "not_in": ["keystead", "second"]}
    two.settle()
    assert shared_roots(reader()) == {"ready": True, "tokens": ["keystead", "second"], "not_in": []}
    two.make("k")
    key = two.keys.core.row(MOUNT, "k")
    assert key is not None
    assert in_each(reader(), key.value, ["keystead", "second"])
    assert not in_each(reader(), key.value, ["keystead", "third"])
    two.make("alone", multi_token=False)
    other = two.keys.core.row(MOUNT, "alone")
    assert other is not None
    assert not in_each(reader(), other.value, ["keystead"])


def test_attempts_that_fail_become_rare(two: JointBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leaves rows and records, and what is wrong may be wrong for days."""
    run(two, two.enroller.enrol("second"))

    def fail(*_: object) -> None:
        raise KmsError(ErrorKind.INVALID, "the token refuses")

    monkeypatch.setattr(making, "make_joint", fail)
    monkeypatch.setattr(making, "QUICK_ATTEMPTS", 2)
    clock = StepClock()
    for wait in (0, 0, 1, 2, 4):
        joiner = replace(two.joiner, clock=clock)
        if wait:
            assert joiner.due() == []
            clock.seconds += wait
        (work,) = joiner.due()
        with pytest.raises(KmsError, match="refuses"):
            run(two, work)
    clock.seconds += 1000
    monkeypatch.undo()
    (work,) = replace(two.joiner, clock=clock).due()
    run(two, work)
    assert shared_roots(two.store.reader())["ready"]
