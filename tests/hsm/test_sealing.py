"""The seal as RSA-OAEP with resident keys: what is forged, changed or moved does not open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose, Seal, objects, sealing
from kms.hsm.connection import SENTINEL_ID, Connection
from kms.hsm.public import load_rsa, oaep_encrypt
from kms.ids import CkaId, new_cka_id
from tests.hsm.parts import opened, private_token

KEY, AAD = b"k" * 32, b"instance, term 1"


@pytest.fixture(scope="module")
def rsa_hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    config = private_token(tmp_path_factory.mktemp("rsa"))
    with opened(replace(config, seal=Seal.RSA_OAEP)) as hsm:
        yield hsm


def new_root(hsm: Hsm) -> CkaId:
    form = hsm.root_form(Purpose.ROOT_SEAL, KeySpec.AES_256)
    assert (form.purpose, form.spec, form.lacks) == (Purpose.ROOT_SEAL_RSA, KeySpec.RSA_3072, "")
    cka_id = new_cka_id()
    hsm.generate(form.purpose, form.spec, cka_id, "seal root")
    return cka_id


@pytest.fixture(scope="module")
def root(rsa_hsm: Hsm) -> CkaId:
    return new_root(rsa_hsm)


def refused(hsm: Hsm, root: CkaId, sealed: bytes, aad: bytes = AAD) -> None:
    with pytest.raises(KmsError) as caught:
        hsm.unseal(root, sealed, aad)
    assert caught.value.kind is ErrorKind.INTEGRITY


def test_every_changed_byte_is_found(rsa_hsm: Hsm, root: CkaId) -> None:
    sealed = rsa_hsm.seal(root, KEY, AAD)
    assert rsa_hsm.unseal(root, sealed, AAD) == KEY
    assert rsa_hsm.seal(root, KEY, AAD) != sealed
    for at in (0, 1, 2, 200, 385, 386, 500, len(sealed) - 1):
        refused(rsa_hsm, root, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
    for cut in (0, 1, 2, 100, 386, len(sealed) - 1):
        refused(rsa_hsm, root, sealed[:cut])
    refused(rsa_hsm, root, sealed + b"x")
    refused(rsa_hsm, root, sealed, b"instance, term 2")


def test_what_somebody_else_encrypted_to_the_public_key_does_not_open(rsa_hsm: Hsm, root: CkaId) -> None:
    """The key is public: with it and the database a thief must not be able to plant a keyring term."""
    sealed = rsa_hsm.seal(root, KEY, AAD)
    planted = sealed[:2] + oaep_encrypt(load_rsa(rsa_hsm.public_key(root)), "sha1", b"t" * 32)
    refused(rsa_hsm, root, planted + sealed[len(planted) :])
    refused(rsa_hsm, root, planted)


def test_another_root_does_not_open_it(rsa_hsm: Hsm, root: CkaId) -> None:
    other, aes = new_root(rsa_hsm), new_cka_id()
    rsa_hsm.generate(Purpose.ROOT_SEAL, KeySpec.AES_256, aes, "aes root")
    refused(rsa_hsm, other, rsa_hsm.seal(root, KEY, AAD))
    refused(rsa_hsm, aes, rsa_hsm.seal(root, KEY, AAD))
    refused(rsa_hsm, root, rsa_hsm.seal(aes, KEY, AAD))
    # An existing AES root goes on sealing after the operator chose RSA for new ones.
    assert rsa_hsm.unseal(aes, rsa_hsm.seal(aes, KEY, AAD), AAD) == KEY


def test_a_root_goes_with_its_signer(rsa_hsm: Hsm) -> None:
    gone = new_root(rsa_hsm)
    assert rsa_hsm.exists(sealing.signer_id(gone))
    rsa_hsm.destroy(gone)
    assert not rsa_hsm.exists(sealing.signer_id(gone))
    assert not rsa_hsm.exists(gone)


@pytest.mark.parametrize("missing", ["the signer", "the root"])
def test_half_a_root_is_none(rsa_hsm: Hsm, missing: str) -> None:
    """A crash between the two: nothing can have been sealed with it yet."""
    half = new_root(rsa_hsm)
    assert rsa_hsm.adopt(Purpose.ROOT_SEAL_RSA, KeySpec.RSA_3072, half) == rsa_hsm.public_key(half)
    lost = sealing.signer_id(half) if missing == "the signer" else half

    def lose(connection: Connection, session: object) -> None:
        connection.forget(lost)
        objects.destroy(session, lost)

    rsa_hsm.gate.run(lose)
    assert rsa_hsm.adopt(Purpose.ROOT_SEAL_RSA, KeySpec.RSA_3072, half) is None
    assert not rsa_hsm.exists(half)
    assert not rsa_hsm.exists(sealing.signer_id(half))


def test_the_sentinel_of_such_a_token_signs(rsa_hsm: Hsm, root: CkaId) -> None:
    assert rsa_hsm.exists(root)
    rsa_hsm.check()
    public = rsa_hsm.public_key(CkaId(SENTINEL_ID))
    assert load_rsa(public).key_size == 2048
    rsa_hsm.gate.run(lambda connection, _: rsa_hsm.gate._drop(connection))  # a reconnect
    rsa_hsm.check()


def test_the_choice_is_the_operators(hsm: Hsm) -> None:
    assert hsm.root_form(Purpose.ROOT_SEAL, KeySpec.AES_256).purpose is Purpose.ROOT_SEAL
