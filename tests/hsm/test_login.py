"""Logging in: once, with one session that stays (H5), and never twice with a refused PIN (T-09c)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pkcs11 import exceptions as p11
from pkcs11.constants import TokenFlag

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, login
from kms.hsm.connection import Connection
from kms.hsm.module import Module
from tests.hsm.parts import Spy, StepClock, opened, run_python

WRONG_PIN = """
from kms.errors import KmsError

config.pin_file.write_text("not the pin")
for _ in range(5):
    try:
        Hsm.open(config, SystemClock())
        print("opened with a wrong PIN")
    except KmsError as error:
        print(error.kind, error.detail)
"""


def test_a_wrong_pin_is_sent_once(tmp_path: Path) -> None:
    spy = Spy(tmp_path)
    done = run_python(WRONG_PIN, tmp_path / "token", environment=spy.environment)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in lines] == ["hsm_unavailable"] * 5
    assert "PinIncorrect" in lines[0]
    assert all("not sent again" in line for line in lines)
    assert "not the pin" not in done.stdout
    # Making the token logs its security officer in (userType 0), and opening it tries the user once.
    assert spy.text.count("CKU_USER") == 1


def test_a_mended_pin_file_gets_its_chance(config: HsmConfig) -> None:
    pin = config.pin_file.read_text()
    config.pin_file.write_text("wrong")
    for _ in range(2):
        with pytest.raises(KmsError, match="refused the PIN") as caught:
            Hsm.open(config, SystemClock())
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    config.pin_file.write_text(pin)
    with opened(config) as hsm:
        hsm.check()


def test_a_pin_changed_while_the_token_was_away_is_not_sent_twice(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StepClock()
    with opened(config, clock) as hsm:
        pin = config.pin_file.read_text()
        config.pin_file.write_text("wrong, too")
        attempts = []
        honest = login.find_token

        def counted(*arguments: Any) -> Any:
            token = honest(*arguments)

            def attempt(**options: Any) -> Any:
                attempts.append(1)
                return token.open(**options)

            return SimpleNamespace(open=attempt, flags=token.flags, slot=token.slot)

        with monkeypatch.context() as patch:
            patch.setattr(login, "find_token", counted)

            def lose(_: Connection, __: Any) -> None:
                raise p11.DeviceRemoved

            for _ in range(10):
                with pytest.raises(KmsError):
                    hsm.gate.run(lose)
                clock.sleep(5)
        assert attempts == [1]
        config.pin_file.write_text(pin)
        hsm.check()


@pytest.mark.parametrize("flag", [TokenFlag.USER_PIN_FINAL_TRY, TokenFlag.USER_PIN_LOCKED])
def test_the_last_try_is_left_to_a_person(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch, flag: TokenFlag
) -> None:
    def no_login(**_: Any) -> None:
        pytest.fail("the last try was used")

    monkeypatch.setattr(login, "find_token", lambda *_: SimpleNamespace(open=no_login, flags=flag))
    with pytest.raises(KmsError, match="locked") as caught:
        Hsm.open(config, SystemClock())
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE


REFUSALS = [p11.PinIncorrect, p11.PinLocked, p11.PinExpired, p11.PinLenRange, p11.UserPinNotInitialized]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_every_refusal_of_a_pin_is_final(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch, refusal: type[p11.PKCS11Error]
) -> None:
    config.pin_file.write_text(f"a pin for {refusal.__name__}")
    attempts = []

    def refuse(**_: Any) -> None:
        attempts.append(1)
        raise refusal

    monkeypatch.setattr(
        login, "find_token", lambda *_: SimpleNamespace(open=refuse, flags=TokenFlag(0), label="x")
    )
    for _ in range(3):
        with pytest.raises(KmsError):
            Hsm.open(config, SystemClock())
    assert attempts == [1]


BROKEN: dict[str, tuple[Callable[[HsmConfig], HsmConfig], str]] = {
    "no such module": (lambda c: replace(c, module=Path("/nonexistent.so")), "cannot load"),
    "not a module": (lambda c: replace(c, module=Path("/usr/lib/x86_64-linux-gnu/libc.so.6")), "cannot load"),
    "no such token": (lambda c: replace(c, token_label="other"), "labels seen: 'keystead'"),
    "no PIN file": (lambda c: replace(c, pin_file=Path("/nonexistent")), "cannot read the PIN file"),
    "no configuration": (
        lambda c: replace(c, softhsm2_conf=Path("/nonexistent")),
        "cannot load|labels seen|start",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said(config: HsmConfig, name: str) -> None:
    change, text = BROKEN[name]
    with pytest.raises(KmsError, match=text) as caught:
        Hsm.open(change(config), SystemClock())
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    with opened(config) as hsm:
        hsm.check()


@pytest.mark.parametrize(
    ("text", "mode", "hint"), [("", 0o600, "empty"), ("\n", 0o600, "empty"), ("1234", 0o644, "chmod 600")]
)
def test_pin_files_are_checked(config: HsmConfig, text: str, mode: int, hint: str) -> None:
    config.pin_file.write_text(text)
    config.pin_file.chmod(mode)
    with pytest.raises(KmsError, match=hint):
        Hsm.open(config, SystemClock())


def test_one_session_is_logged_in_and_stays(config: HsmConfig) -> None:
    """H5: closing a session that logged in logs the process out; so only the first logs in, and none is closed."""
    with opened(config) as hsm:
        connection = hsm.gate._connection
        assert connection is not None
        pool = connection.pool
        sessions = [pool.lease() for _ in range(5)]
        assert pool._opened == 5
        # 1 is CKU_USER; python-pkcs11 marks sessions that share a login as "nobody".
        assert [int(each.user_type) for each in sessions].count(1) == 1
        for each in sessions:
            pool.give_back(each)
        hsm.check()


def test_the_session_limit_of_a_token_is_lived_with(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(config) as hsm:
        connection = hsm.gate._connection
        assert connection is not None

        def full(**_: Any) -> None:
            raise p11.SessionCount

        pool = connection.pool
        monkeypatch.setattr(pool, "_token", SimpleNamespace(open=full))
        first = pool.lease()
        assert pool._grow() is None
        assert pool._limit == 1
        pool.give_back(first)
        hsm.check()


def test_busy_sessions_are_waited_for_and_then_refused(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kms.hsm.pool.WAIT_SECONDS", 0.05)
    with opened(config) as hsm:
        connection = hsm.gate._connection
        assert connection is not None
        pool = connection.pool
        monkeypatch.setattr(pool, "_limit", 2)
        taken = [pool.lease(), pool.lease()]
        with pytest.raises(KmsError, match="busy") as caught:
            hsm.check()
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        for each in taken:
            pool.give_back(each)
        hsm.check()


def test_a_session_that_does_not_open_is_a_loss(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StepClock()
    with opened(config, clock) as hsm:
        connection = hsm.gate._connection
        assert connection is not None

        def gone(**_: Any) -> None:
            raise p11.DeviceRemoved

        pool = connection.pool
        taken = pool.lease()
        with monkeypatch.context() as patch:
            patch.setattr(pool, "_token", SimpleNamespace(open=gone))
            with pytest.raises(KmsError) as caught:
                hsm.random(8)
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        assert pool.retired
        pool.give_back(taken)
        clock.sleep(5)
        hsm.check()


def test_a_retired_pool_hands_out_nothing(config: HsmConfig) -> None:
    clock = StepClock()
    with opened(config, clock) as hsm:
        connection = hsm.gate._connection
        assert connection is not None
        connection.pool.retired = True
        clock.sleep(5)
        hsm.check()
        assert hsm.gate._connection is not connection


def test_a_module_that_lists_no_tokens(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise p11.GeneralError

    def slots(*, token_present: bool) -> list[Any]:
        assert token_present
        return found

    stub: Any = SimpleNamespace(library=SimpleNamespace(get_slots=lambda **_: broken()))
    with pytest.raises(KmsError, match="lists no tokens"):
        login.find_token(stub, "x")
    found: list[Any] = [SimpleNamespace(get_token=broken)]
    stub.library.get_slots = slots
    with pytest.raises(KmsError, match="lists no tokens"):
        login.find_token(stub, "x")
    # One that is leaving does not hide another.
    found.append(SimpleNamespace(get_token=lambda: SimpleNamespace(label="x")))
    assert login.find_token(stub, "x").label == "x"
    fails = SimpleNamespace(flags=TokenFlag(0), open=lambda **_: broken())
    monkeypatch.setattr(login, "find_token", lambda *_: fails)
    with pytest.raises(KmsError, match="cannot open a session"):
        Hsm.open(config, SystemClock())


def test_a_module_that_does_not_start_is_named(config: HsmConfig) -> None:
    """Every step of loading has its own sentence, and a refusal of OS locking is no refusal to start."""
    module = Module(config.module, config.variables)
    honest_start, honest_end = module._initialize, module._finalize
    steps: Any = module
    steps._initialize = lambda arguments: 0xA if arguments else honest_start(None)
    module.restart()
    seen = [module.os_locking]
    steps._initialize = lambda _: 0x5
    with pytest.raises(KmsError, match="does not start"):
        module.restart()
    steps._finalize = lambda _: 0x5
    with pytest.raises(KmsError, match="does not finalise"):
        module.restart()
    steps._initialize, steps._finalize = honest_start, honest_end
    module.restart()
    assert [*seen, module.os_locking] == [False, True]
    module.close()
