"""What doctor says about a token."""

from __future__ import annotations

import pytest
from pkcs11 import exceptions as p11
from pkcs11.mechanisms import Mechanism

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, HsmConfig, KeySpec, capabilities, rawops
from tests.hsm.parts import opened

# What SoftHSM 2.6.1 cannot do of what we ask for.
MISSING = {
    ("hmac sha3-224", KeySpec.HMAC),
    ("hmac sha3-256", KeySpec.HMAC),
    ("hmac sha3-384", KeySpec.HMAC),
    ("hmac sha3-512", KeySpec.HMAC),
    ("wrap and unwrap", KeySpec.ED25519),
    ("import", KeySpec.ED25519),
    *((f"decrypt oaep {name}", KeySpec.RSA_2048) for name in ("sha224", "sha256", "sha384", "sha512")),
}


def test_softhsm(hsm: Hsm) -> None:
    before = hsm.gate.run(lambda _, session: len(list(session.get_objects({}))))
    rows = capabilities.survey(hsm)
    assert {(row.operation, row.spec) for row in rows if not row.works} == MISSING
    assert {row.spec for row in rows} == set(KeySpec)
    for row in rows:
        assert row.mechanism
        assert bool(row.advice) is not row.works
        assert (row.finding == "works") is row.works
    assert hsm.gate.run(lambda _, session: len(list(session.get_objects({})))) == before


@pytest.mark.parametrize(
    ("gone", "broken", "required"),
    [
        (Mechanism.AES_GCM, "seal aes-gcm", True),
        (Mechanism.EDDSA, "generate and sign eddsa", False),
        (Mechanism.ECDSA, "generate and sign ecdsa", False),
        (Mechanism.RSA_PKCS_PSS, "sign rsa-pss-sha256", False),
        (Mechanism.SHA256_HMAC, "hmac sha256", False),
    ],
)
def test_a_missing_mechanism_is_named(
    hsm: Hsm, monkeypatch: pytest.MonkeyPatch, gone: Mechanism, broken: str, required: bool
) -> None:
    connection = hsm.gate._connection
    assert connection is not None
    monkeypatch.setattr(connection, "mechanisms", connection.mechanisms - {gone})
    row = next(row for row in capabilities.survey(hsm) if row.operation == broken)
    assert not row.works
    assert row.required is required
    assert gone.name in row.finding
    assert row.advice


def test_a_token_without_key_pairs_cannot_serve(hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = hsm.gate._connection
    assert connection is not None
    pairs = {Mechanism.EC_KEY_PAIR_GEN, Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Mechanism.RSA_PKCS_KEY_PAIR_GEN}
    monkeypatch.setattr(connection, "mechanisms", connection.mechanisms - pairs)
    with pytest.raises(KmsError, match="audit log"):
        capabilities.survey(hsm)


def test_info_and_mechanisms(hsm: Hsm) -> None:
    assert (hsm.info.model, hsm.info.label, hsm.info.os_locking) == ("SoftHSM v2", "keystead", True)
    assert {"AES_GCM", "AES_KEY_WRAP_PAD", "ECDSA", "EDDSA"} <= hsm.mechanisms()


@pytest.mark.parametrize(
    ("failure", "finding"),
    [
        (p11.KeySizeRange(), "the token says KeySizeRange"),
        (KmsError(ErrorKind.INTEGRITY, "a sentence"), "a sentence"),
    ],
)
def test_what_the_token_says_is_shown(
    hsm: Hsm, monkeypatch: pytest.MonkeyPatch, failure: Exception, finding: str
) -> None:
    def fail(*_: object) -> bytes:
        raise failure

    monkeypatch.setattr(rawops, "mac", fail)
    rows = [row for row in capabilities.survey(hsm) if row.operation == "hmac sha256"]
    assert [(row.works, row.finding) for row in rows] == [(False, finding)]


def test_a_token_lost_meanwhile_ends_the_survey(config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> bytes:
        raise p11.DeviceRemoved

    with opened(config) as hsm:
        monkeypatch.setattr(rawops, "encrypt", lose)
        with pytest.raises(KmsError) as caught:
            capabilities.survey(hsm)
        assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
        monkeypatch.undo()
