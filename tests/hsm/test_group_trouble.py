"""Tokens of a group in trouble: busy, lost in the middle of a call, paused in vain, closed, forked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pkcs11 import exceptions as p11
from pkcs11.mechanisms import KeyType

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import AwayError, HsmConfig, HsmGroup, KeySpec, Purpose, Resident, Scheme, open_group, rawops
from kms.hsm.connection import Connection
from kms.hsm.failures import NotBegunError
from kms.hsm.members import House, MemberGate
from kms.hsm.module import Module, unavailable
from kms.hsm.pool import SessionPool
from kms.hsm.turns import turn
from kms.ids import new_cka_id
from tests.hsm.parts import eventually, further_token, private_token

NAMES = ("keystead", "second")


def two_tokens(folder: Path) -> dict[str, HsmConfig]:
    first = private_token(folder)
    return {"keystead": first, "second": further_token(first, "second")}


@pytest.fixture
def configs(tmp_path: Path) -> dict[str, HsmConfig]:
    return two_tokens(tmp_path)


@contextmanager
def opened(configs: dict[str, HsmConfig]) -> Iterator[HsmGroup]:
    names = SimpleNamespace(names=lambda: set(configs), clear=lambda: None)
    group = open_group(list(configs.items()), SystemClock(), names, lambda _ref: None)
    try:
        yield group
    finally:
        group.close()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HsmGroup]:
    """Shared: each test leaves it usable."""
    with opened(two_tokens(tmp_path_factory.mktemp("trouble"))) as shared:
        yield shared


def gate_of(group: HsmGroup, name: str) -> MemberGate:
    return next(member.gate for member in group._members if member.name == name)


def pool_of(group: HsmGroup, name: str) -> SessionPool:
    connection = gate_of(group, name)._connection
    assert connection is not None
    return connection.pool


def signer(group: HsmGroup, name: str) -> Resident:
    ref = Resident(new_cka_id(), Purpose.KEY_SIGN, KeySpec.ED25519)
    group.at(name).generate(ref.purpose, ref.spec, ref.cka_id, f"signer of {name}")
    return ref


@contextmanager
def busy(pool: SessionPool) -> Iterator[None]:
    """Other callers have all sessions."""
    sessions, limit = [pool.lease()], pool._limit
    pool._limit = pool._opened
    sessions += [pool.lease() for _ in range(pool._opened - 1)]
    try:
        yield
    finally:
        pool._limit = limit
        for session in sessions:
            pool.give_back(session)


def fail_once(monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    """The next signature in this token ends in a lost device."""
    real, failed = rawops.sign, threading.Event()

    def sign(session: Any, *rest: Any) -> bytes:
        if str(session.token.label) == label and not failed.is_set():
            failed.set()
            raise p11.DeviceError
        return real(session, *rest)

    monkeypatch.setattr(rawops, "sign", sign)


def test_another_token_answers_for_a_busy_one(group: HsmGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """And when all are busy the caller hears that, not that a token is away."""
    monkeypatch.setattr("kms.hsm.pool.WAIT_SECONDS", 0.02)
    with busy(pool_of(group, "keystead")):
        assert len(group.random(16)) == 16
        with (
            busy(pool_of(group, "second")),
            pytest.raises(KmsError, match="sessions of the HSM are busy") as caught,
        ):
            group.random(16)
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    assert group.away() == {}
    assert len(group.random(16)) == 16


def test_a_call_is_repeated_when_its_only_token_is_back_at_once(
    group: HsmGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = signer(group, "second")
    asked = threading.Event()
    attempt, back = House._attempt, MemberGate.back

    def attempt_later(self: House, lost: Sequence[MemberGate]) -> None:
        assert asked.wait(30)
        attempt(self, lost)

    def asked_back(self: MemberGate) -> bool:
        asked.set()
        return back(self)

    monkeypatch.setattr(House, "_attempt", attempt_later)
    monkeypatch.setattr(MemberGate, "back", asked_back)
    fail_once(monkeypatch, "second")
    before = gate_of(group, "second")._connection
    assert len(group.sign(ref, Scheme.EDDSA, b"message")) == 64
    assert asked.is_set()
    assert gate_of(group, "second")._connection is not before


def test_the_module_is_left_alone_while_another_token_works(
    group: HsmGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that does not end must not be cut off; its token goes on, and the lost one comes when it has ended."""
    monkeypatch.setattr("kms.hsm.members.DRAIN_SECONDS", 0.05)
    lost, working = signer(group, "second"), signer(group, "keystead")
    fail_once(monkeypatch, "second")
    pool = pool_of(group, "keystead")
    session = pool.lease()
    try:
        with pytest.raises(KmsError, match='"second"'):
            group.sign(lost, Scheme.EDDSA, b"message")
        assert "calls are still in flight" in group.away()["second"]
        eventually(lambda: group.sign(working, Scheme.EDDSA, b"message"))
        assert pool_of(group, "keystead") is pool
    finally:
        pool.give_back(session)
    eventually(lambda: group.sign(lost, Scheme.EDDSA, b"message"))
    eventually(lambda: group.sign(working, Scheme.EDDSA, b"message"))
    eventually(group.check)
    assert group.away() == {}


def test_a_lost_token_is_left_alone_while_its_own_call_is_in_flight(
    group: HsmGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms.hsm.members.DRAIN_SECONDS", 0.05)
    ref = signer(group, "second")
    fail_once(monkeypatch, "second")
    pool = pool_of(group, "second")
    session = pool.lease()
    try:
        with pytest.raises(KmsError, match='"second"'):
            group.sign(ref, Scheme.EDDSA, b"message")
        assert "calls are still in flight" in group.away()["second"]
        assert len(group.random(8)) == 8
    finally:
        pool.give_back(session)
    eventually(lambda: group.sign(ref, Scheme.EDDSA, b"message"))


def test_a_caller_does_not_wait_for_ever_for_the_first_attempt(
    group: HsmGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms.hsm.members.PATIENCE_SECONDS", 0.05)
    ref = signer(group, "second")
    going_on = threading.Event()
    attempt = House._attempt

    def attempt_later(self: House, lost: Sequence[MemberGate]) -> None:
        assert going_on.wait(30)
        attempt(self, lost)

    monkeypatch.setattr(House, "_attempt", attempt_later)
    fail_once(monkeypatch, "second")
    with pytest.raises(KmsError, match='"second"'):
        group.sign(ref, Scheme.EDDSA, b"message")
    with pytest.raises(KmsError, match="is being reopened") as caught:
        group.at("second").check()
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    monkeypatch.setattr("kms.hsm.members.PATIENCE_SECONDS", 15.0)
    going_on.set()
    eventually(lambda: group.sign(ref, Scheme.EDDSA, b"message"))


def test_a_closed_group_refuses_and_so_does_what_a_fork_brought(configs: dict[str, HsmConfig]) -> None:
    """The orphaned gate is what the child's fork handler leaves; the child itself is in test_fork.py."""
    with opened(configs) as group:
        gate_of(group, "second").orphan()
        with pytest.raises(KmsError, match="before this process was forked") as caught:
            group.at("second").check()
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        group.at("keystead").check()
        group.close()
        for call in (group.check, group.at("keystead").check):
            with pytest.raises(KmsError, match="the HSM was closed") as caught:
                call()
            assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        with pytest.raises(AwayError):
            group.mechanisms()


def test_a_retired_pool_sends_nobody_to_the_token(group: HsmGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kms.hsm.pool.WAIT_SECONDS", 0.02)
    pool = pool_of(group, "second")
    with busy(pool):
        pool.retired = True
        with pytest.raises(NotBegunError):
            pool.lease()
        assert not pool.drain(SystemClock(), 0.01)
    assert pool.drain(SystemClock(), 1.0)
    pool.resume()
    group.check()


def test_tokens_of_one_module_are_configured_alike(configs: dict[str, HsmConfig]) -> None:
    odd = replace(configs["second"], environment=(("ODD", "1"),))
    with (
        pytest.raises(KmsError, match="two tokens of the module") as caught,
        opened({"keystead": configs["keystead"], "second": odd}),
    ):
        pass
    assert caught.value.kind is ErrorKind.INVALID


def test_a_turn_is_waited_for_and_then_refused(group: HsmGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one token; the other's turn is its own."""
    monkeypatch.setattr("kms.hsm.turns.WAIT_SECONDS", 0.05)
    holding, ending = threading.Event(), threading.Event()
    pool = pool_of(group, "second")
    session = pool.lease()

    def hold() -> None:
        with turn(session):
            holding.set()
            assert ending.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert holding.wait(30)
        with pytest.raises(KmsError, match="busy storing a key") as caught:
            group.at("second").exists(new_cka_id())
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        assert not group.at("keystead").exists(new_cka_id())
    finally:
        ending.set()
        thread.join()
        pool.give_back(session)
    assert not group.at("second").exists(new_cka_id())


def test_a_module_that_finds_a_token_again_by_itself_is_not_restarted(
    configs: dict[str, HsmConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a hardware token, whose files are not ours: it logs in again, and the other one notices nothing."""
    foreign = {
        name: replace(config, softhsm2_conf=None, environment=(("SOFTHSM2_CONF", str(config.softhsm2_conf)),))
        for name, config in configs.items()
    }
    with opened(foreign) as group:
        ref = signer(group, "second")
        other, lost = (gate_of(group, name)._connection for name in NAMES)
        fail_once(monkeypatch, "second")
        eventually(lambda: group.sign(ref, Scheme.EDDSA, b"message"))
        assert gate_of(group, "second")._connection is not lost
        assert gate_of(group, "keystead")._connection is other
        group.check()


def test_a_module_with_a_dead_connection_is_loaded_anew(
    group: HsmGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all its tokens go on failing after it was initialised again, as behind p11-kit."""
    refs = [signer(group, name) for name in NAMES]
    dying = dict.fromkeys(NAMES, 1)
    establish, sign, reload = MemberGate._establish, rawops.sign, Module.reload
    lost, loaded = set(NAMES), []

    def establish_later(self: MemberGate) -> Connection:
        name = self._config.token_label
        if dying[name]:
            dying[name] -= 1
            raise unavailable("no far side") from p11.DeviceError()
        return establish(self)

    def sign_once_lost(session: Any, *rest: Any) -> bytes:
        name = str(session.token.label)
        if name in lost:
            lost.remove(name)
            raise p11.DeviceError
        return sign(session, *rest)

    def noted(self: Module) -> None:
        loaded.append(self)
        reload(self)

    monkeypatch.setattr(MemberGate, "_establish", establish_later)
    monkeypatch.setattr(rawops, "sign", sign_once_lost)
    monkeypatch.setattr(Module, "reload", noted)
    for ref in refs:
        eventually(lambda ref=ref: group.sign(ref, Scheme.EDDSA, b"message"))  # type: ignore[misc]
    group.check()
    assert loaded
    assert not any(dying.values())


def test_a_token_that_holds_a_key_twice_is_not_passed_over(group: HsmGroup) -> None:
    cka_id = new_cka_id()

    def make(_connection: Connection, session: Any) -> None:
        session.generate_key(KeyType.AES, 256, id=cka_id, store=True)

    gate_of(group, "second").run(make)
    gate_of(group, "second").run(make)
    with pytest.raises(KmsError, match="more than one key") as caught:
        group.seal(cka_id, b"x", b"")
    assert caught.value.kind is ErrorKind.INTEGRITY
    assert group.away() == {}
