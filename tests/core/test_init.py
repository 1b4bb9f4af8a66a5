"""Init and rotation of the root over a real token: resumable at every step, nothing lost on the way."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose
from kms.hsm.token import softhsm_token
from kms.keys.keyring import TERMS, open_terms
from kms.keys.recovery import from_custodians
from kms.keys.roots import ROOTS, ROTATED, Roots
from kms.keys.rotation import RootRotator
from kms.operation import External, Result
from kms.sensitive import ACCESS, Sensitive
from kms.storage import FILE_NAME, RowSealer, SqliteStore, prepare
from kms.system.init import Custodians, Initializer
from kms.system.instance import check_custody, read_instance
from kms.system.mounts import MOUNTS
from kms.system.shamir import combine


class CrashError(BaseException):
    """Stands for kill -9 at this point."""


class Bench:
    """A database and a token, and the parts of one process over them; `restart` makes new ones."""

    def __init__(self, folder: Path, recovery: str = "quorum") -> None:
        self.folder, self.recovery, self.clock = folder, recovery, SystemClock()
        self.hsm = Hsm.open(softhsm_token(folder / "token"), self.clock)
        prepare(folder / "storage")
        self.store = SqliteStore.open(folder / "storage" / FILE_NAME)
        self.restart()

    def restart(self) -> None:
        """Everything in memory is gone; the database and the token stay."""
        self.store.close()
        self.store = SqliteStore.open(self.folder / "storage" / FILE_NAME)
        self.roots = Roots(self.store, lambda: self.hsm, self.clock)
        self.rotator = RootRotator(
            self.store, lambda: self.hsm, self.roots, self.instance, self.clock, lambda _retired: 0
        )
        self.initializer = Initializer(
            self.store,
            lambda: self.hsm,
            self.roots,
            self.clock,
            recovery=self.recovery,
            unlock=self.unlock,
            lock=self.store.lock,
            root_token=lambda _tx, wanted: wanted or "hvs.made",
        )

    def unlock(self, instance: str, terms: Mapping[int, Sensitive]) -> None:
        self.store.unlock(RowSealer(instance, terms))

    def instance(self) -> str:
        row = read_instance(self.store.reader())
        assert row is not None
        return row.value.id

    def terms(self) -> dict[int, bytes]:
        opened = open_terms(self.hsm, self.instance(), self.store.reader())
        return {term: key.reveal(ACCESS) for term, key in opened.items()}

    def hsm_sentinel(self) -> str:
        (found,) = [cka_id for cka_id, label in self.hsm.objects("keystead") if label.endswith("sentinel")]
        return found.hex()

    def close(self) -> None:
        self.store.close()
        self.hsm.close()


@pytest.fixture(name="bench")
def _bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def run(bench: Bench, external: External[Any], crash_after: str = "") -> Result:
    """The pipeline's steps for an external effect, stopping dead after one of them."""
    assert external.begin is not None
    with bench.store.transaction() as tx:
        external.begin(tx)
    if crash_after == "begin":
        raise CrashError
    try:
        done = external.perform()
        if crash_after == "perform":
            raise CrashError
        with bench.store.transaction() as tx:
            result = external.conclude(tx, done)
            if crash_after == "conclude":
                raise CrashError
    except KmsError as error:
        with bench.store.transaction() as tx:
            external.abandon(tx, error)
        raise
    return result


def initialize(bench: Bench, crash_after: str = "", **custodians: int) -> Result:
    return run(bench, bench.initializer.initialize(Custodians(**custodians)), crash_after)  # type: ignore[arg-type]


def test_init_leaves_an_open_server_whose_secrets_only_the_token_opens(bench: Bench) -> None:
    result = initialize(bench, shares=5, threshold=3)
    assert result.data is not None
    assert result.data["root_token"] == "hvs.made"
    assert [len(base64.b64decode(share)) for share in result.data["keys_base64"]] == [33] * 5
    terms = bench.terms()
    assert sorted(terms) == [0, 1]
    for path in (bench.folder / "storage").iterdir():
        stored = path.read_bytes()
        assert not any(key in stored for key in terms.values())
    assert sorted(bench.store.reader().keys(MOUNTS)) == ["auth/token/", "cubbyhole/", "identity/", "sys/"]
    states = {row.value.state for row in bench.store.reader().scan(ROOTS)}
    assert states == {"active"}


def test_three_custodians_open_the_terms_without_the_token_and_two_do_not(bench: Bench) -> None:
    result = initialize(bench, shares=5, threshold=3)
    assert result.data is not None
    shares = [bytes.fromhex(share) for share in result.data["keys"]]
    secret = combine(shares[1:4])
    check_custody(bench.store.reader(), Sensitive(secret))
    with pytest.raises(KmsError, match="do not open"):
        check_custody(bench.store.reader(), Sensitive(combine(shares[:2])))
    for row in bench.store.reader().scan(TERMS):
        opened = from_custodians(Sensitive(secret), bench.instance(), row.value.term, row.value.recovery)
        assert opened.matches(bench.terms()[row.value.term])
        with pytest.raises(KmsError, match="not sealed to these custodians"):
            from_custodians(Sensitive(secret), "another", row.value.term, row.value.recovery)


def test_without_quorum_recovery_the_shares_open_no_term(tmp_path: Path) -> None:
    bench = Bench(tmp_path, recovery="none")
    initialize(bench, shares=1, threshold=1)
    assert {row.value.recovery for row in bench.store.reader().scan(TERMS)} == {b""}
    bench.close()


def test_init_happens_once(bench: Bench) -> None:
    initialize(bench, shares=1, threshold=1)
    with pytest.raises(KmsError, match="Vault is already initialized"):
        initialize(bench, shares=1, threshold=1)


@pytest.mark.parametrize("step", ["begin", "perform", "conclude"])
def test_an_init_that_was_cut_off_is_done_again_and_leaves_nothing_behind(bench: Bench, step: str) -> None:
    with pytest.raises(CrashError):
        initialize(bench, step, shares=1, threshold=1)
    bench.restart()
    row = read_instance(bench.store.reader())
    assert row is not None
    assert not row.value.initialized
    initialize(bench, shares=1, threshold=1)
    bench.roots.destroy_discarded()
    left = {cka_id.hex() for cka_id, _ in bench.hsm.objects("keystead root")}
    assert left == {bench.roots.current(purpose).hex() for purpose in ROTATED}
    assert sorted(bench.terms()) == [0, 1]


def test_a_crash_inside_generation_leaves_no_orphan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    generate: Callable[..., bytes] = bench.hsm.generate

    def killed(purpose: Purpose, spec: KeySpec, cka_id: bytes, label: str) -> bytes:
        generate(purpose, spec, cka_id, label)
        raise CrashError

    monkeypatch.setattr(bench.hsm, "generate", killed)
    for _ in range(2):
        with pytest.raises(CrashError):
            initialize(bench, shares=1, threshold=1)
        bench.restart()
    monkeypatch.undo()
    initialize(bench, shares=1, threshold=1)
    objects = {cka_id.hex() for cka_id, _ in bench.hsm.objects("keystead")}
    rows = set(bench.store.reader().keys(ROOTS))
    assert objects - {bench.hsm_sentinel()} <= rows
    bench.roots.destroy_discarded()
    active = {row.key for row in bench.store.reader().find(ROOTS, {"state": "active"})}
    assert {cka_id.hex() for cka_id, _ in bench.hsm.objects("keystead")} == active | {bench.hsm_sentinel()}


@pytest.mark.parametrize("step", ["", "begin", "perform", "conclude"])
def test_rotation_changes_the_roots_and_no_term_and_can_be_resumed(bench: Bench, step: str) -> None:
    initialize(bench, shares=1, threshold=1)
    before = bench.terms()
    old = {purpose: bench.roots.current(purpose) for purpose in ROTATED}
    rotation = bench.rotator.rotate()
    if step:
        with pytest.raises(CrashError):
            run(bench, rotation, step)
        bench.restart()
        bench.store.unlock(RowSealer(bench.instance(), {t: Sensitive(k) for t, k in before.items()}))
        assert bench.terms() == before, "a rotation that was cut off loses nothing"
        resumed = bench.rotator.resume(rotation.intent)
        assert resumed is not None
        rotation = resumed
    run(bench, rotation)
    new = {purpose: bench.roots.current(purpose) for purpose in ROTATED}
    assert all(new[purpose] != old[purpose] for purpose in ROTATED)
    assert bench.terms() == before
    assert {row.value.root_version for row in bench.store.reader().scan(TERMS)} == {2}
    progress = bench.rotator.progress()
    assert (progress["state"], progress["version"], progress["terms_under_current"]) == ("complete", 2, 2)


def test_two_rotations_at_once_do_not_make_two_active_roots(bench: Bench) -> None:
    initialize(bench, shares=1, threshold=1)
    first, second = bench.rotator.rotate(), bench.rotator.rotate()
    for external in (first, second):
        assert external.begin is not None
        with bench.store.transaction() as tx:
            external.begin(tx)
    done_first, done_second = first.perform(), second.perform()
    with bench.store.transaction() as tx:
        first.conclude(tx, done_first)
    with pytest.raises(KmsError) as error, bench.store.transaction() as tx:
        second.conclude(tx, done_second)
    assert error.value.kind is ErrorKind.CONFLICT
    assert bench.roots.active(Purpose.ROOT_SEAL).version == 2
    bench.roots.destroy_discarded()
    seals = [label for _, label in bench.hsm.objects("keystead root-seal")]
    assert sorted(seals) == ["keystead root-seal v1", "keystead root-seal v2"], "the loser's is destroyed"
    late = bench.rotator.resume({"to_version": 2})
    assert late is not None
    assert run(bench, late).partial, "what another rotation did is not recorded twice"
    assert first.begin is not None
    with pytest.raises(KmsError) as error, bench.store.transaction() as tx:
        first.begin(tx)
    assert error.value.kind is ErrorKind.CONFLICT


def test_rotations_by_several_threads_leave_roots_that_work(bench: Bench) -> None:
    """A token takes two keys under one CKA_ID, and then neither can be used."""
    initialize(bench, shares=1, threshold=1)
    before = bench.terms()
    for version in (2, 3, 4):
        rotations = [bench.rotator.rotate() for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            outcomes = [threads.submit(run, bench, rotation) for rotation in rotations]
        failures = [outcome.exception() for outcome in outcomes]
        assert failures.count(None) == 1, failures
        assert {each.kind for each in failures if isinstance(each, KmsError)} == {ErrorKind.CONFLICT}, (
            failures
        )
        assert bench.roots.active(Purpose.ROOT_SEAL).version == version
        assert bench.terms() == before
    bench.roots.destroy_discarded()
    labels = [label for _, label in bench.hsm.objects("keystead root-")]
    assert sorted(labels) == sorted(f"keystead {p.value} v{v}" for p in ROTATED for v in (1, 2, 3, 4))
    assert {row.value.state for row in bench.store.reader().scan(ROOTS)} == {"active", "retired", "discarded"}


def test_what_a_killed_attempt_left_goes_when_its_version_was_made_by_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialize(bench, shares=1, threshold=1)
    bench.roots.ensure(Purpose.ROOT_SEAL, 2, "killed")
    assert bench.roots.destroy_discarded() == 0, "it may be at work"
    run(bench, bench.rotator.rotate())
    bench.roots.ensure(Purpose.ROOT_WRAP_ENC, 2, "late and killed")
    assert bench.roots.destroy_discarded() == 1, "the late one may still be at work"
    monkeypatch.setattr("kms.keys.roots.SETTLING_SECONDS", -1.0)
    assert bench.roots.destroy_discarded() == 2
    assert {row.value.state for row in bench.store.reader().scan(ROOTS)} == {"active", "retired"}
    labels = [label for _, label in bench.hsm.objects("keystead root-")]
    assert sorted(labels) == sorted(f"keystead {p.value} v{v}" for p in ROTATED for v in (1, 2))
