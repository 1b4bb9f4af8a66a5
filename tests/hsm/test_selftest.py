"""T-01: a wrong answer, from a library or from the token, is found and stops the service."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pkcs11.constants import Attribute, ObjectClass

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, Purpose, rawops, selftest, templates, vectors
from kms.hsm.connection import Connection
from tests.hsm.parts import StepClock, make_roots, opened


def test_what_is_tested(hsm: Hsm) -> None:
    report = hsm.self_test(thorough=True)
    tested = [line.split(":")[0].split(" ")[0] for line in report]
    assert tested == ["random", "AES-GCM", "HMAC", "AES-KWP", "ecdsa", "eddsa", "rsa-pkcs1-sha256"]
    compared = [line for line in report if "compared with software" in line]
    assert len(compared) == 3
    assert len(hsm.self_test()) == 6


def test_nothing_stays_in_the_token(hsm: Hsm) -> None:
    def session_objects() -> int:
        return hsm.gate.run(lambda _, session: len(list(session.get_objects({}))))

    before = session_objects()
    hsm.self_test(thorough=True)
    assert session_objects() == before


def flipped(call: Any) -> Any:
    def wrong(*arguments: Any) -> bytes:
        answer = call(*arguments)
        return bytes([answer[0] ^ 1]) + bytes(answer[1:])

    return wrong


@pytest.mark.parametrize("broken", ["encrypt", "mac", "wrap", "sign"])
def test_a_wrong_answer_of_the_token_is_found(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    clock = StepClock()
    with opened(config, clock) as hsm:
        make_roots(hsm)
        with monkeypatch.context() as patch:
            patch.setattr(rawops, broken, flipped(getattr(rawops, broken)))
            with pytest.raises(KmsError) as caught:
                hsm.self_test()
            assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        clock.sleep(5)
        hsm.self_test()


def test_a_token_that_means_something_else_by_kwp_gets_no_wrapped_keys(
    config: HsmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NSS does not do RFC 5649 under the number by which SoftHSM does."""
    monkeypatch.setattr(rawops, "wrap", flipped(rawops.wrap))
    with opened(config) as hsm:
        roots = make_roots(hsm)
        assert not hsm.can_wrap(KeySpec.AES_256)
        with pytest.raises(KmsError, match="no CKM_AES_KEY_WRAP_KWP") as caught:
            hsm.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, roots[Purpose.ROOT_WRAP_ENC], b"c")
        assert caught.value.kind is ErrorKind.INVALID


def test_a_token_that_accepts_wrong_tags_is_found(hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: list[bytes] = []
    honest = rawops.decrypt

    def lenient(*arguments: Any) -> bytes:
        if not plain:
            plain.append(honest(*arguments))
        return plain[0]

    monkeypatch.setattr(rawops, "decrypt", lenient)
    with pytest.raises(KmsError, match="wrong GCM tag"):
        hsm.self_test()


def test_a_random_generator_that_repeats_itself_is_found(hsm: Hsm) -> None:
    class Stuck:
        def __init__(self, session: Any) -> None:
            self._session = session

        def generate_random(self, bits: int) -> bytes:
            return bytes([7]) * (bits // 8)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

    def test(connection: Connection, session: Any) -> None:
        selftest.token(connection, Stuck(session))

    with pytest.raises(KmsError, match="repeats itself"):
        hsm.gate.run(test)


def test_a_token_without_readable_keys_is_tested_by_round_trips(
    hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = templates.throwaway

    def only_sensitive(*uses: Any, readable: bool) -> Any:
        refused = {Attribute.CLASS: ObjectClass.PUBLIC_KEY} if readable else {}
        return honest(*uses, readable=readable) | refused

    monkeypatch.setattr(selftest, "throwaway", only_sensitive)
    report = hsm.self_test()
    assert sum("round trip only" in line for line in report) == 3


def no_sha(name: str, data: bytes = b"") -> Any:
    return hashlib.md5(name.encode() + data, usedforsecurity=False)


WRONG_LIBRARIES = {
    "SHA": ("hashlib.new", no_sha),
    "HMAC": ("hmac.digest", flipped(hmac.digest)),
    "KWP": ("kms.hsm.vectors.aes_key_wrap_with_padding", lambda *_: b""),
    "verification": ("kms.hsm.vectors.verify_proof", lambda *_: False),
    "accepting": ("kms.hsm.vectors.verify_proof", lambda *_: True),
}


@pytest.mark.parametrize("name", WRONG_LIBRARIES)
def test_a_wrong_library_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors.check()
    monkeypatch.setattr(*WRONG_LIBRARIES[name])
    with pytest.raises(KmsError, match="self-test failed") as caught:
        vectors.check()
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE


class WrongGcm:
    """AES-GCM with a wrong bit."""

    def __init__(self, key: bytes) -> None:
        self._honest = AESGCM(key)

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        return bytes(flipped(self._honest.encrypt)(nonce, data, aad))

    def decrypt(self, *_: bytes) -> bytes:
        return b""


class LenientGcm(WrongGcm):
    """AES-GCM that does not check."""

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        return self._honest.encrypt(nonce, data, aad)


@pytest.mark.parametrize("wrong", [WrongGcm, LenientGcm])
def test_a_wrong_gcm_is_found(monkeypatch: pytest.MonkeyPatch, wrong: type) -> None:
    monkeypatch.setattr(vectors, "AESGCM", wrong)
    with pytest.raises(KmsError, match="AES-256-GCM"):
        vectors.check()


def test_a_failing_self_test_does_not_open(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rawops, "mac", flipped(rawops.mac))
        with pytest.raises(KmsError, match="HMAC"):
            Hsm.open(config, SystemClock())
    Hsm.open(config, SystemClock()).close()
