"""A token that goes and comes back: 503 while it is away, never "no such key", no restart needed (H3, T-08)."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from pkcs11 import exceptions as p11

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose, Resident, Scheme, gate, selftest, vectors
from kms.hsm.connection import Connection
from kms.hsm.module import Module
from kms.ids import new_cka_id
from tests.hsm.parts import StepClock, Vanishing, make_roots, opened, private_token


def refusal(call: Any) -> ErrorKind:
    with pytest.raises(KmsError) as caught:
        call()
    return caught.value.kind


def test_away_and_back(config: HsmConfig) -> None:
    clock, files = StepClock(), Vanishing(config)
    with opened(config, clock) as hsm:
        roots = make_roots(hsm)
        pair = Resident(new_cka_id(), Purpose.KEY_SIGN, KeySpec.ED25519)
        hsm.generate(pair.purpose, pair.spec, pair.cka_id, "pair")
        ref = hsm.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, roots[Purpose.ROOT_WRAP_ENC], b"c")
        sealed = hsm.seal(roots[Purpose.ROOT_SEAL], b"x", b"")
        calls = {
            "check": hsm.check,
            "exists": lambda: hsm.exists(pair.cka_id),
            "exists, unknown id": lambda: hsm.exists(new_cka_id()),
            "public_key": lambda: hsm.public_key(new_cka_id()),
            "sign": lambda: hsm.sign(pair, Scheme.EDDSA, b"m"),
            "unseal": lambda: hsm.unseal(roots[Purpose.ROOT_SEAL], sealed, b""),
            "generate": lambda: hsm.generate(Purpose.KEY_ENC, KeySpec.AES_256, new_cka_id(), "never"),
            "generate_wrapped": lambda: hsm.generate_wrapped(
                Purpose.KEY_ENC, KeySpec.AES_256, roots[Purpose.ROOT_WRAP_ENC], b"d"
            ),
            "destroy": lambda: hsm.destroy(pair.cka_id),
            "objects": lambda: hsm.objects(""),
        }
        for name, first in calls.items():
            before = hsm.objects("")
            files.vanish()
            assert refusal(first) is ErrorKind.HSM_UNAVAILABLE, f"{name} was the first to find out"
            for call in calls.values():
                assert refusal(call) is ErrorKind.HSM_UNAVAILABLE
                clock.sleep(1.0)
            files.come_back()
            clock.sleep(gate.LAST_DELAY)
            hsm.check()
            assert hsm.objects("") == before, f"{name} changed the token"
            assert hsm.encrypt(ref, bytes(12), b"x", b"")
            assert hsm.unseal(roots[Purpose.ROOT_SEAL], sealed, b"") == b"x"
            assert len(hsm.sign(pair, Scheme.EDDSA, b"m")) == 64


def test_recovery_fifty_times(config: HsmConfig) -> None:
    """Barbican 2008649: the second failure was the one that stayed."""
    clock, files = StepClock(), Vanishing(config)
    with opened(config, clock) as hsm:
        make_roots(hsm)
        for _ in range(50):
            files.vanish()
            assert refusal(hsm.check) is ErrorKind.HSM_UNAVAILABLE
            files.come_back()
            clock.sleep(gate.LAST_DELAY)
            hsm.check()


def test_a_read_is_repeated_at_once_when_the_token_is_back(config: HsmConfig) -> None:
    files = Vanishing(config)
    with opened(config, StepClock()) as hsm:
        roots = make_roots(hsm)
        sealed = hsm.seal(roots[Purpose.ROOT_SEAL], b"x", b"")
        before = hsm.gate._connection
        files.vanish()
        # Somebody notices, but before he tries again the token is back.
        with pytest.raises(KmsError):
            hsm.seal(roots[Purpose.ROOT_SEAL], b"y", b"")
        files.come_back()
        assert hsm.unseal(roots[Purpose.ROOT_SEAL], sealed, b"") == b"x"
        assert hsm.gate._connection is not before


def test_attempts_are_bounded_by_back_off(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, files = StepClock(), Vanishing(config)
    with opened(config, clock) as hsm:
        make_roots(hsm)
        restarts: list[float] = []
        honest = Module.restart

        def counted(module: Module) -> None:
            restarts.append(clock.seconds)
            honest(module)

        monkeypatch.setattr(Module, "restart", counted)
        files.vanish()
        for _ in range(400):
            assert refusal(hsm.check) is ErrorKind.HSM_UNAVAILABLE
            clock.sleep(0.05)
        gaps = [later - earlier for earlier, later in itertools.pairwise(restarts)]
        assert 8 <= len(restarts) <= 14, "20 seconds: 0.25, 0.5, 1, then every 2"
        assert all(gap >= gate.FIRST_DELAY - 0.001 for gap in gaps)
        assert gaps[-1] == pytest.approx(gate.LAST_DELAY, abs=0.06)
        files.come_back()
        clock.sleep(gate.LAST_DELAY)
        hsm.check()


def test_another_token_under_the_same_label_is_not_used(
    config: HsmConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = private_token(tmp_path_factory.mktemp("other"))
    clock, files = StepClock(), Vanishing(config)
    with opened(config, clock) as hsm:
        make_roots(hsm)
        files.vanish()
        assert refusal(hsm.check) is ErrorKind.HSM_UNAVAILABLE
        files.here.rmdir()
        (other.pin_file.parent / "tokens").rename(files.here)
        pin = config.pin_file.read_text()
        config.pin_file.write_text(other.pin_file.read_text())
        clock.sleep(gate.LAST_DELAY)
        with pytest.raises(KmsError, match="another token") as caught:
            hsm.check()
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        config.pin_file.write_text(pin)
        files.here.rename(files.here.with_name("stranger"))
        files.away.rename(files.here)
        clock.sleep(gate.LAST_DELAY)
        hsm.check()


def test_nobody_is_inside_the_module_when_it_restarts(config: HsmConfig) -> None:
    """Rule 2 of the gate: C_Finalize waits for calls in flight, and gives up when they do not end."""
    clock = StepClock()
    with opened(config, clock) as hsm:
        make_roots(hsm)
        inside, leave = threading.Event(), threading.Event()

        def slow(_: Connection, session: Any) -> bytes:
            inside.set()
            assert leave.wait(30)
            return bytes(session.generate_random(64))

        results: list[bytes] = []
        worker = threading.Thread(target=lambda: results.append(hsm.gate.run(slow)))
        worker.start()
        assert inside.wait(10)

        def lose(_: Connection, __: Any) -> None:
            raise p11.DeviceRemoved

        assert refusal(lambda: hsm.gate.run(lose)) is ErrorKind.HSM_UNAVAILABLE
        with pytest.raises(KmsError, match="still in flight"):
            hsm.check()
        leave.set()
        worker.join(10)
        clock.sleep(gate.LAST_DELAY)
        hsm.check()
        assert len(results) == 1


LOSSES = [
    p11.DeviceError,
    p11.DeviceRemoved,
    p11.TokenNotPresent,
    p11.SessionHandleInvalid,
    p11.UserNotLoggedIn,
]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_repeated_only_for_reads_and_once(hsm: Hsm, loss: type[p11.PKCS11Error]) -> None:
    calls = []

    def lose_first(_: Connection, __: Any) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise loss
        return "done"

    assert hsm.gate.run(lose_first, repeat=True) == "done"
    calls.clear()
    assert refusal(lambda: hsm.gate.run(lose_first)) is ErrorKind.HSM_UNAVAILABLE
    assert calls == [1]

    def lose_always(_: Connection, __: Any) -> None:
        calls.append(1)
        raise loss

    calls.clear()
    assert refusal(lambda: hsm.gate.run(lose_always, repeat=True)) is ErrorKind.HSM_UNAVAILABLE
    assert calls == [1, 1]
    hsm.check()


ERRORS = [
    (p11.DataLenRange, ErrorKind.INVALID),
    (p11.MechanismInvalid, ErrorKind.INVALID),
    (p11.KeySizeRange, ErrorKind.INVALID),
    (p11.WrappedKeyInvalid, ErrorKind.INTEGRITY),
    (p11.DeviceMemory, ErrorKind.HSM_UNAVAILABLE),
    (p11.SessionCount, ErrorKind.HSM_UNAVAILABLE),
    (p11.GeneralError, ErrorKind.INTERNAL),
    (p11.FunctionFailed, ErrorKind.INTERNAL),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_errors_of_a_token_that_is_there_do_not_reopen_it(
    hsm: Hsm, error: type[p11.PKCS11Error], kind: ErrorKind
) -> None:
    """T-09c: a full token or a session limit is a typed error. Barbican reset the HSM on any error."""
    hsm.check()
    before = hsm.gate._connection

    def fail(_: Connection, __: Any) -> None:
        raise error

    assert refusal(lambda: hsm.gate.run(fail, repeat=True)) is kind
    assert hsm.gate._connection is before


def test_a_failed_self_test_stops_service_until_it_passes(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, files = StepClock(), Vanishing(config)
    with opened(config, clock) as hsm:
        make_roots(hsm)
        files.vanish()
        assert refusal(hsm.check) is ErrorKind.HSM_UNAVAILABLE
        files.come_back()
        clock.sleep(gate.LAST_DELAY)
        with monkeypatch.context() as patch:
            patch.setattr(selftest, "_hmac", lambda _: vectors.must(good=False, what="HMAC differs"))
            with pytest.raises(KmsError, match="HMAC differs"):
                hsm.check()
        clock.sleep(gate.LAST_DELAY)
        hsm.check()


def test_a_closed_hsm_refuses(config: HsmConfig) -> None:
    with opened(config) as hsm:
        hsm.close()
        hsm.close()
        with pytest.raises(KmsError, match="was closed") as caught:
            hsm.check()
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    with opened(config) as again:
        again.check()
        with pytest.raises(KmsError, match="already open"):
            Hsm.open(config, StepClock())


def test_others_wait_a_moment_while_one_reopens(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "TURN_SECONDS", 0.05)
    clock = StepClock()
    with opened(config, clock) as hsm:

        def lose(_: Connection, __: Any) -> None:
            raise p11.DeviceRemoved

        assert refusal(lambda: hsm.gate.run(lose)) is ErrorKind.HSM_UNAVAILABLE
        with hsm.gate._lock, pytest.raises(KmsError, match="being reopened"):
            hsm.check()
        threads = [threading.Thread(target=hsm.check) for _ in range(4)]
        monkeypatch.setattr(gate, "TURN_SECONDS", 10.0)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        hsm.check()


def test_a_token_lost_during_the_self_test_does_not_open(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any, **__: Any) -> None:
        raise p11.DeviceRemoved

    with monkeypatch.context() as patch:
        patch.setattr(selftest, "token", lose)
        with pytest.raises(KmsError, match="failed its self-test"):
            Hsm.open(config, StepClock())
    with opened(config) as hsm:
        hsm.check()


def test_an_orphaned_gate_refuses_and_closes(config: HsmConfig) -> None:
    """What os.register_at_fork does in a child; test_fork.py sees it happen."""
    with opened(config) as hsm:
        with hsm.gate._lock:
            hsm.gate.orphan()
            with pytest.raises(KmsError, match="before this process was forked"):
                hsm.check()
        hsm.close()
