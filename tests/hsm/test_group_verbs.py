"""Each verb of the port, through a group of two tokens: with a key of the first, of the second, and of neither."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kms.clock import SystemClock
from kms.errors import ErrorKind, KmsError, not_found
from kms.hsm import (
    AwayError,
    HsmConfig,
    HsmGroup,
    KeyRef,
    KeySpec,
    Parcel,
    Purpose,
    Resident,
    Scheme,
    Wrapped,
    open_group,
)
from kms.hsm.public import load_rsa, oaep_encrypt, point_of
from kms.ids import CkaId, new_cka_id
from tests.hsm.parts import Pulled, eventually, further_token, private_token

NAMES = ("keystead", "second")
NONCE = bytes(range(12))
BORN = {
    Purpose.ROOT_SEAL: KeySpec.AES_256,
    Purpose.ROOT_WRAP_ENC: KeySpec.AES_256,
    Purpose.ROOT_WRAP_MAC: KeySpec.AES_256,
    Purpose.KEY_CMAC: KeySpec.AES_128,
    Purpose.KEY_DECRYPT: KeySpec.RSA_2048,
    Purpose.KEY_AGREE: KeySpec.EC_P256,
    Purpose.KEY_SIGN: KeySpec.EC_P256,
}


@dataclass
class Rig:
    """Two tokens with a key for each purpose in each; `lost` are the keys that are refused."""

    group: HsmGroup
    configs: dict[str, HsmConfig]
    keys: dict[str, dict[Purpose, Resident]]
    public: dict[CkaId, bytes]
    lost: set[KeyRef]

    def key(self, name: str, purpose: Purpose) -> Resident:
        """The key in the token of that name, or one that is nowhere."""
        if name == "nowhere":
            return Resident(new_cka_id(), purpose, BORN[purpose])
        return self.keys[name][purpose]

    def root(self, name: str, purpose: Purpose) -> CkaId:
        return self.key(name, purpose).cka_id


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    first = private_token(tmp_path_factory.mktemp("verbs"))
    configs = {"keystead": first, "second": further_token(first, "second")}
    lost: set[KeyRef] = set()

    def refuse(ref: KeyRef) -> None:
        if ref in lost:
            raise not_found("this key is lost")

    names = SimpleNamespace(names=lambda: set(configs), clear=lambda: None)
    group = open_group(list(configs.items()), SystemClock(), names, refuse)
    rig = Rig(group, configs, {}, {}, lost)
    try:
        for name in configs:
            rig.keys[name] = {
                purpose: Resident(new_cka_id(), purpose, spec) for purpose, spec in BORN.items()
            }
            for ref in rig.keys[name].values():
                made = group.at(name).generate(ref.purpose, ref.spec, ref.cka_id, f"{name} {ref.purpose}")
                rig.public[ref.cka_id] = made
        yield rig
    finally:
        group.close()


def ec_public(der: bytes) -> ec.EllipticCurvePublicKey:
    public = load_der_public_key(der)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return public


def seals(rig: Rig, name: str) -> None:
    root = rig.root(name, Purpose.ROOT_SEAL)
    sealed = rig.group.seal(root, b"keyring", b"term 1")
    assert rig.group.unseal(root, sealed, b"term 1") == b"keyring"
    with pytest.raises(KmsError) as caught:
        rig.group.unseal(root, sealed, b"term 2")
    assert caught.value.kind is ErrorKind.INTEGRITY


def wrapped_encrypts(rig: Rig, name: str) -> None:
    ref = rig.group.generate_wrapped(
        Purpose.KEY_ENC, KeySpec.AES_256, rig.root(name, Purpose.ROOT_WRAP_ENC), b"c"
    )
    data = rig.group.encrypt(ref, NONCE, b"text", b"aad")
    assert data[:4] != b"text"
    rig.group.retire_unused()  # the next use loads it again
    assert rig.group.decrypt(ref, NONCE, data, b"aad") == b"text"
    with pytest.raises(KmsError) as caught:
        rig.group.decrypt(ref, NONCE, data, b"other")
    assert caught.value.kind is ErrorKind.INVALID


def wrapped_macs(rig: Rig, name: str) -> None:
    ref = rig.group.generate_wrapped(
        Purpose.KEY_MAC, KeySpec.HMAC, rig.root(name, Purpose.ROOT_WRAP_MAC), b"c"
    )
    tag = rig.group.mac(ref, "sha256", b"data")
    assert len(tag) == 32
    assert rig.group.at(name).mac(ref, "sha256", b"data") == tag


def cmacs(rig: Rig, name: str) -> None:
    ref = rig.key(name, Purpose.KEY_CMAC)
    tag = rig.group.cmac(ref, b"data")
    assert len(tag) == 16
    assert rig.group.at(name).cmac(ref, b"data") == tag


def decrypts_rsa(rig: Rig, name: str) -> None:
    ref = rig.key(name, Purpose.KEY_DECRYPT)
    public = load_rsa(rig.group.public_key(ref.cka_id))
    assert rig.group.decrypt_oaep(ref, "sha1", oaep_encrypt(public, "sha1", b"text")) == b"text"


def decrypts_noise(rig: Rig, name: str) -> None:
    ref = rig.key(name, Purpose.KEY_DECRYPT)
    with pytest.raises(KmsError) as caught:
        rig.group.decrypt_oaep(ref, "sha1", bytes(256))
    if caught.value.kind is not ErrorKind.INVALID:
        raise caught.value


def agrees(rig: Rig, name: str) -> None:
    ref = rig.key(name, Purpose.KEY_AGREE)
    peer = ec.generate_private_key(ec.SECP256R1())
    secret = rig.group.agree(ref, point_of(peer.public_key()))
    assert secret == peer.exchange(ec.ECDH(), ec_public(rig.public[ref.cka_id]))


def signs(rig: Rig, name: str) -> None:
    ref = rig.key(name, Purpose.KEY_SIGN)
    assert len(rig.group.sign(ref, Scheme.ECDSA, os.urandom(32))) == 64


def tells_the_public_key(rig: Rig, name: str) -> None:
    cka_id = rig.root(name, Purpose.KEY_SIGN)
    assert rig.group.public_key(cka_id) == rig.public[cka_id]


VERBS: list[Callable[[Rig, str], None]] = [
    seals,
    wrapped_encrypts,
    wrapped_macs,
    cmacs,
    decrypts_rsa,
    decrypts_noise,
    agrees,
    signs,
    tells_the_public_key,
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_used_where_it_is(rig: Rig, verb: Callable[[Rig, str], None], name: str) -> None:
    verb(rig, name)


@pytest.mark.parametrize("verb", VERBS)
def test_a_key_that_is_nowhere_is_refused(rig: Rig, verb: Callable[[Rig, str], None]) -> None:
    """All tokens answered, so it is no outage, and none is put aside."""
    with pytest.raises(KmsError) as caught:
        verb(rig, "nowhere")
    assert caught.value.kind is ErrorKind.INTEGRITY
    assert rig.group.away() == {}


def test_a_key_that_is_known_to_be_lost_is_not_looked_for(rig: Rig) -> None:
    ref = rig.key("second", Purpose.KEY_CMAC)
    rig.lost.add(ref)
    with pytest.raises(KmsError, match="this key is lost"):
        rig.group.cmac(ref, b"data")
    rig.lost.clear()
    assert len(rig.group.cmac(ref, b"data")) == 16


def test_the_tokens_by_name(rig: Rig) -> None:
    assert rig.group.at("").info.label == "keystead"
    assert rig.group.at("second").info.label == "second"
    assert rig.group.info.label == "keystead"
    with pytest.raises(KmsError, match='names no HSM token "third"') as caught:
        rig.group.at("third")
    assert caught.value.kind is ErrorKind.INVALID


def test_where_a_key_can_be_reached(rig: Rig) -> None:
    roots = [rig.root(name, Purpose.ROOT_SEAL) for name in reversed(NAMES)]
    assert all(rig.group.reachable(cka_id) for cka_id in roots)
    nowhere = new_cka_id()
    assert not rig.group.reachable(nowhere)
    assert rig.group.order([roots[0]]) == [roots[0]]
    assert rig.group.order([nowhere, *roots]) == [roots[1], roots[0], nowhere]


def test_what_any_token_answers(rig: Rig) -> None:
    group, alone = rig.group, rig.group.at("keystead")
    assert "AES_GCM" in group.mechanisms()
    assert group.mechanisms() == alone.mechanisms()
    assert len({group.random(16), group.random(16)}) == 2
    with pytest.raises(KmsError, match="random bytes"):
        group.random(0)
    assert group.can_wrap(KeySpec.AES_256)
    assert group.oaep(Purpose.KEY_DECRYPT) == ("sha1",), "SoftHSM 2.6.1"
    spec = KeySpec.AES_256
    assert alone.root_form(Purpose.ROOT_SEAL, spec).purpose is Purpose.ROOT_SEAL
    with pytest.raises(TypeError, match="is asked of one token"):
        group.root_form(Purpose.ROOT_SEAL, spec)
    group.check()


def test_all_tokens_are_tested(rig: Rig) -> None:
    each = [rig.group.at(name).self_test() for name in NAMES]
    assert all(each)
    assert rig.group.self_test() == [line for lines in each for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_listing_adopting_and_destroying(rig: Rig, name: str) -> None:
    ref = Resident(new_cka_id(), Purpose.KEY_SIGN, KeySpec.EC_P256)
    label = f"doomed in {name}"
    assert rig.group.adopt(ref.purpose, ref.spec, ref.cka_id) is None
    public = rig.group.at(name).generate(ref.purpose, ref.spec, ref.cka_id, label)
    assert rig.group.adopt(ref.purpose, ref.spec, ref.cka_id) == public
    assert rig.group.objects("doomed in") == [(ref.cka_id, label)]
    rig.group.destroy(ref.cka_id)
    assert not rig.group.exists(ref.cka_id)
    assert rig.group.objects("doomed in") == []
    rig.group.destroy(ref.cka_id)  # nothing there is a success


def test_a_callers_key_comes_into_the_token_that_unwraps_it(rig: Rig) -> None:
    wrapping = new_cka_id()
    public = rig.group.at("second").generate(Purpose.IMPORT_UNWRAP, KeySpec.RSA_4096, wrapping, "wrapping")
    ephemeral, key = os.urandom(32), os.urandom(32)
    data = oaep_encrypt(load_rsa(public), "sha1", ephemeral)
    data += keywrap.aes_key_wrap_with_padding(ephemeral, key)
    ref = Resident(new_cka_id(), Purpose.KEY_ENC, KeySpec.AES_256, imported=True)
    assert rig.group.adopt_import(ref, b"") is None
    assert rig.group.bring(Parcel(wrapping, "sha1", data), ref, "callers") == b""
    assert rig.group.adopt_import(ref, b"") == b""
    assert rig.group.at("second").exists(ref.cka_id)
    assert not rig.group.at("keystead").exists(ref.cka_id)
    assert rig.group.encrypt(ref, NONCE, b"text", b"aad") == AESGCM(key).encrypt(NONCE, b"text", b"aad")


def test_what_is_done_while_one_is_away(rig: Rig) -> None:
    """The check names it; a key that may be in it is not called destroyed; the other's keys are."""
    here = [new_cka_id(), new_cka_id()]
    for cka_id in here:
        rig.group.generate(Purpose.KEY_SIGN, KeySpec.EC_P256, cka_id, "here")
    rig.group.public_key(here[0])  # now it is known where it is
    files = Pulled(rig.configs["second"])
    files.vanish()
    with pytest.raises(AwayError):
        signs(rig, "second")
    with pytest.raises(KmsError, match='the HSM token "second" does not answer') as caught:
        rig.group.check()
    assert caught.value.kind is ErrorKind.HSM_UNAVAILABLE
    rig.group.destroy(here[0])
    for cka_id in (here[1], rig.root("second", Purpose.KEY_AGREE)):
        with pytest.raises(AwayError, match='"second"'):
            rig.group.destroy(cka_id)
    assert not any(rig.group.at("keystead").exists(cka_id) for cka_id in here)
    files.come_back()
    eventually(rig.group.check)
    signs(rig, "second")
    assert rig.group.exists(rig.root("second", Purpose.KEY_AGREE))


def test_refs_name_what_they_need(rig: Rig) -> None:
    """A wrapped key goes where its root is: its blob in the other token would be no key."""
    root = rig.root("second", Purpose.ROOT_WRAP_ENC)
    ref = rig.group.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, root, b"c")
    assert isinstance(ref, Wrapped)
    assert ref.wrapping == root
    with pytest.raises(KmsError) as caught:
        rig.group.at("keystead").encrypt(ref, NONCE, b"text", b"")
    assert caught.value.kind is ErrorKind.INTEGRITY
    assert rig.group.encrypt(ref, NONCE, b"text", b"")
