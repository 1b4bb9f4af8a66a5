"""A call that hangs: its caller is answered in time, it is made once, and no other is sent after it (T-09)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose, Resident, Scheme, rawops
from kms.hsm.deadline import MAX_THREADS, HungError, Runner
from kms.ids import new_cka_id
from tests.hsm.parts import StepClock, opened

DEADLINE = 1


def refused(call: Callable[[], object]) -> tuple[KmsError, float]:
    began = time.monotonic()
    with pytest.raises(KmsError) as caught:
        call()
    return caught.value, time.monotonic() - began


def signer(hsm: Hsm) -> Callable[[], bytes]:
    ref = Resident(new_cka_id(), Purpose.CA_SIGN, KeySpec.EC_P256)
    hsm.generate(ref.purpose, ref.spec, ref.cka_id, "signer")
    return lambda: hsm.sign(ref, Scheme.ECDSA, bytes(32))


def test_a_hung_signature(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, release, calls = rawops.sign, threading.Event(), []

    def hanging(*arguments: Any) -> bytes:
        calls.append(1)
        release.wait(30)
        return honest(*arguments)

    with opened(replace(config, deadline_seconds=DEADLINE)) as hsm:
        sign = signer(hsm)
        assert len(sign()) == 64
        with monkeypatch.context() as patch:
            patch.setattr(rawops, "sign", hanging)
            error, took = refused(sign)
            assert error.kind is ErrorKind.HSM_UNAVAILABLE
            assert DEADLINE <= took < DEADLINE + 10
            for _ in range(5):
                error, took = refused(sign)
                assert error.kind is ErrorKind.HSM_UNAVAILABLE
                assert took < DEADLINE
            assert len(calls) == 1, "made once, and nothing after it"
        release.set()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert len(sign()) == 64
                break
            except KmsError:
                assert time.monotonic() < deadline, "it did not come back"
                time.sleep(0.1)


def test_errors_and_answers_pass_through(config: HsmConfig) -> None:
    with opened(replace(config, deadline_seconds=DEADLINE)) as hsm:
        sign = signer(hsm)
        assert len({sign() for _ in range(50)}) == 50
        with pytest.raises(KmsError, match="cannot do this"):
            hsm.mac(Resident(new_cka_id(), Purpose.CA_SIGN, KeySpec.HMAC), "sha256", b"")
        with pytest.raises(KmsError, match="holds no key"):
            hsm.public_key(new_cka_id())
        results: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: results.extend(sign() for _ in range(20))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 160


def test_a_process_whose_calls_hang_for_long_is_ended(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, clock, killed = threading.Event(), StepClock(), []
    with opened(replace(config, deadline_seconds=DEADLINE), clock) as hsm:
        sign = signer(hsm)
        monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
        monkeypatch.setattr(rawops, "sign", lambda *_: release.wait(30) and b"")
        refused(sign)
        refused(sign)
        assert killed == []
        clock.sleep(120)
        refused(sign)
        assert killed == [(os.getpid(), signal.SIGTERM)]
        release.set()


def test_more_calls_than_threads_are_refused_at_once() -> None:
    runner, release = Runner(0.05), threading.Event()
    for _ in range(MAX_THREADS):
        with pytest.raises(HungError):
            runner.run(lambda: release.wait(30))
    runner._seconds = 60.0
    began = time.monotonic()
    with pytest.raises(HungError):
        runner.run(lambda: None)
    assert time.monotonic() - began < 30
    release.set()
    deadline = time.monotonic() + 5
    while True:
        try:
            assert runner.run(lambda: 7) == 7
            break
        except HungError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_idle_threads_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kms.hsm.deadline.IDLE_SECONDS", 0.05)
    runner = Runner(5)
    before = threading.active_count()
    assert [runner.run(lambda: 1) for _ in range(20)] == [1] * 20
    deadline = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert runner.run(lambda: 2) == 2
