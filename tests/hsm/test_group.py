"""Several tokens behind one port: what one of them can do goes on while the other is away."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import (
    AwayError,
    HsmConfig,
    HsmGroup,
    KeySpec,
    Purpose,
    Resident,
    Scheme,
    Wrapped,
    find_softhsm_module,
    open_group,
    rawops,
)
from kms.hsm.connection import Connection
from kms.hsm.failures import UnseenError
from kms.ids import CkaId, new_cka_id
from tests.hsm.parts import Pulled, eventually, further_token, private_token

PATIENCE = 60.0


@dataclass
class Pair:
    """Two tokens, each with a wrapping key, a wrapped key and a resident pair of its own."""

    group: HsmGroup
    configs: dict[str, HsmConfig]
    roots: dict[str, CkaId]
    wrapped: dict[str, Wrapped]
    signers: dict[str, Resident]

    def encrypt(self, name: str) -> bytes:
        return self.group.encrypt(self.wrapped[name], bytes(12), b"text", b"")

    def sign(self, name: str) -> bytes:
        return self.group.sign(self.signers[name], Scheme.EDDSA, b"message")


@contextmanager
def opened(configs: dict[str, HsmConfig]) -> Iterator[HsmGroup]:
    names = SimpleNamespace(names=lambda: set(configs), clear=lambda: None)
    group = open_group(list(configs.items()), SystemClock(), names, lambda _ref: None)
    try:
        yield group
    finally:
        group.close()


def stock(group: HsmGroup, configs: dict[str, HsmConfig]) -> Pair:
    pair = Pair(group, configs, {}, {}, {})
    for name in configs:
        one = group.at(name)
        root, signer = new_cka_id(), new_cka_id()
        one.generate(Purpose.ROOT_WRAP_ENC, KeySpec.AES_256, root, f"root of {name}")
        pair.roots[name] = root
        pair.wrapped[name] = one.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, root, b"c")
        pair.signers[name] = Resident(signer, Purpose.KEY_SIGN, KeySpec.ED25519)
        one.generate(Purpose.KEY_SIGN, KeySpec.ED25519, signer, f"signer of {name}")
    return pair


@pytest.fixture
def configs(tmp_path: Path) -> dict[str, HsmConfig]:
    """Two tokens of one module."""
    first = private_token(tmp_path)
    return {"keystead": first, "second": further_token(first, "second")}


@pytest.fixture
def apart(tmp_path: Path) -> dict[str, HsmConfig]:
    """Two tokens of two modules."""
    first = private_token(tmp_path / "one")
    return {"keystead": first, "second": private_token(tmp_path / "two")}


def test_each_key_is_used_where_it_is(configs: dict[str, HsmConfig]) -> None:
    with opened(configs) as group:
        pair = stock(group, configs)
        for name in configs:
            assert len(pair.encrypt(name)) == 4 + 16
            assert len(pair.sign(name)) == 64
            assert group.exists(pair.signers[name].cka_id)
        # A birth is in the first.
        born = new_cka_id()
        group.generate(Purpose.KEY_SIGN, KeySpec.EC_P256, born, "born")
        assert group.at("keystead").exists(born)
        assert not group.at("second").exists(born)
        assert not group.exists(new_cka_id())
        assert group.away() == {}
        assert group.order(list(reversed(pair.roots.values())))[0] == pair.roots["keystead"]


@pytest.mark.parametrize("gone", ["keystead", "second"])
@pytest.mark.parametrize("which", ["configs", "apart"])
def test_one_goes_and_comes_back(gone: str, which: str, request: pytest.FixtureRequest) -> None:
    configs: dict[str, HsmConfig] = request.getfixturevalue(which)
    (other,) = set(configs) - {gone}
    with opened(configs) as group:
        pair = stock(group, configs)
        files = Pulled(configs[gone])
        files.vanish()
        with pytest.raises(AwayError, match=f'"{gone}"') as caught:
            pair.sign(gone)
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        with pytest.raises(AwayError, match=f'"{gone}"'):
            pair.encrypt(gone)
        assert list(group.away()) == [gone]
        for _ in range(3):
            pair.encrypt(other)
            pair.sign(other)
        assert group.order(list(pair.roots.values()))[0] == pair.roots[other]
        born = new_cka_id()
        group.generate(Purpose.KEY_SIGN, KeySpec.EC_P256, born, "born meanwhile")
        assert group.exists(born)
        # Whether a key is nowhere cannot be known while one token is away.
        with pytest.raises(AwayError):
            group.exists(new_cka_id())
        with pytest.raises(AwayError):
            group.adopt(Purpose.KEY_SIGN, KeySpec.EC_P256, new_cka_id())
        files.come_back()
        eventually(lambda: pair.sign(gone))
        assert pair.encrypt(gone)
        assert group.at(other).exists(born)
        assert not group.exists(new_cka_id())
        assert group.away() == {}


@pytest.mark.parametrize("gone", ["keystead", "second"])
def test_it_starts_with_either(configs: dict[str, HsmConfig], gone: str) -> None:
    (other,) = set(configs) - {gone}
    with opened(configs) as group:
        pair = stock(group, configs)
    files = Pulled(configs[gone])
    files.vanish()
    with opened(configs) as group:
        pair.group = group
        pair.sign(other)
        with pytest.raises(AwayError, match=f'"{gone}"'):
            pair.sign(gone)
        files.come_back()
        eventually(lambda: pair.sign(gone))


def test_without_any_it_does_not_start(configs: dict[str, HsmConfig]) -> None:
    for config in configs.values():
        Pulled(config).vanish()
    with pytest.raises(KmsError, match="0 tokens have the label 'keystead'"), opened(configs):
        pass


def test_both_go_and_come_back(configs: dict[str, HsmConfig]) -> None:
    with opened(configs) as group:
        pair = stock(group, configs)
        files = [Pulled(config) for config in configs.values()]
        for each in files:
            each.vanish()
        for name in configs:
            with pytest.raises(KmsError) as caught:
                pair.sign(name)
            assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        for each in files:
            each.come_back()
        for name in configs:
            eventually(lambda name=name: pair.sign(name))  # type: ignore[misc]


def test_eight_threads_and_one_slot_vanishing(configs: dict[str, HsmConfig]) -> None:
    """The module is initialised anew under load, again and again: on the other token nothing fails."""
    errors: list[BaseException] = []
    counts = [0] * 8
    with opened(configs) as group:
        pair = stock(group, configs)
        ending = threading.Event()

        def work(number: int) -> None:
            while not ending.is_set():
                try:
                    pair.encrypt("keystead") if number % 2 else pair.sign("keystead")
                    group.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, pair.roots["keystead"], b"d")
                    counts[number] += 1
                except BaseException as error:  # noqa: BLE001  # the test says which
                    errors.append(error)
                    return

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        files = Pulled(configs["second"])
        for _ in range(2):
            files.vanish()
            with pytest.raises(AwayError):
                pair.sign("second")
            time.sleep(1.0)
            files.come_back()
            eventually(lambda: pair.sign("second"))
        ending.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert all(counts)


def test_copies_stand_in_for_each_other(tmp_path: Path) -> None:
    """A token and a vendor's copy of it; the copy has no name of its own, so it is another module's."""
    first = private_token(tmp_path / "one")
    with opened({"keystead": first}) as group:
        pair = stock(group, {"keystead": first})
    shutil.copytree(tmp_path / "one/token/tokens", tmp_path / "two/tokens")
    conf = tmp_path / "two/softhsm2.conf"
    conf.write_text(f"directories.tokendir = {tmp_path}/two/tokens\n", "utf-8")
    module = tmp_path / "two/private-softhsm.so"
    shutil.copy(find_softhsm_module(), module)
    copy = replace(first, module=module, softhsm2_conf=conf)
    with opened({"keystead": first, "copy": copy}) as group:
        pair.group = group
        made = pair.encrypt("keystead")
        for _ in range(2):
            files = Pulled(first)
            files.vanish()
            assert pair.encrypt("keystead") == made
            assert len(pair.sign("keystead")) == 64
            files.come_back()
            end = time.monotonic() + PATIENCE
            while group.away():
                assert time.monotonic() < end
                time.sleep(0.05)


def test_a_key_that_seems_to_be_nowhere_is_looked_for_again(
    configs: dict[str, HsmConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a module remembers wrongly is mended by a new beginning, which the other token does not notice."""
    with opened(configs) as group:
        pair = stock(group, configs)
        pair.sign("keystead")
        pair.sign("second")
        real = Connection.resident
        bad = next(member.gate._connection for member in group._members if member.name == "second")

        def resident(self: Connection, session: object, ref: Resident) -> int:
            if self is bad:
                raise UnseenError(ref.cka_id)
            return real(self, session, ref)

        monkeypatch.setattr(Connection, "resident", resident)
        assert len(pair.sign("second")) == 64
        assert len(pair.sign("keystead")) == 64


def test_a_token_that_hangs_is_put_aside(
    configs: dict[str, HsmConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its callers get an answer at the deadline, later ones at once; the other does not notice."""
    hanging, release = threading.Event(), threading.Event()
    real = rawops.sign
    slow = {name: replace(config, deadline_seconds=1) for name, config in configs.items()}
    with opened(slow) as group:
        pair = stock(group, slow)
        bad = next(member.gate._connection for member in group._members if member.name == "second")
        assert bad is not None

        def sign(session: Any, *rest: Any) -> bytes:
            if str(session.token.label) == "second" and not hanging.is_set():
                hanging.set()
                release.wait(30)
            return real(session, *rest)

        monkeypatch.setattr(rawops, "sign", sign)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(AwayError, match='"second"'):
                pair.sign("second")
            assert len(pair.sign("keystead")) == 64
            assert pair.encrypt("keystead")
        assert time.monotonic() - began < 20
        release.set()
        eventually(lambda: pair.sign("second"))
