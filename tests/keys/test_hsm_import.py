"""BYOK with protection hsm, and pairs in the HSM that decrypt or derive, through the operations."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from kms.errors import ErrorKind, KmsError
from kms.hsm import Purpose
from kms.ids import CkaId
from kms.keys.model import ResidentMaterial, SoftwareMaterial, VersionState
from kms.keys.store import IMPORT_KEYS, KEY_VERSIONS, NAMED_KEYS
from kms.operation import External
from tests.keys.fixtures import Token
from tests.keys.rig import MOUNT, Rig

SHA1 = hashes.SHA1()  # noqa: S303  # SoftHSM's OAEP knows no other
OAEP = padding.OAEP(padding.MGF1(SHA1), SHA1, None)


def pem(private: Any) -> str:
    return str(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def pkcs8(private: Any) -> bytes:
    return bytes(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def wrapped(rig: Rig, target: bytes) -> str:
    """As a caller does it: with what the answer to wrapping_key says."""
    answer = rig.run("wrapping-key", protection="hsm")
    assert answer["hash_functions"] == ["SHA1"]
    public = load_pem_public_key(answer["public_key"].encode())
    assert isinstance(public, rsa.RSAPublicKey)
    ephemeral = os.urandom(32)
    parcel = public.encrypt(ephemeral, OAEP) + keywrap.aes_key_wrap_with_padding(ephemeral, target)
    return b64encode(parcel).decode()


def bring(rig: Rig, name: str, type_: str, target: bytes, **more: Any) -> None:
    sent = {"ciphertext": wrapped(rig, target), "hash_function": "SHA1", "protection": "hsm"} | more
    rig.run("keys.import", name=name, type=type_, **sent)


def refused(rig: Rig, operation: str, **args: Any) -> str:
    with pytest.raises(KmsError) as caught:
        rig.run(operation, **args)
    assert caught.value.kind is ErrorKind.INVALID
    return caught.value.detail


def test_without_a_wrapping_key_nothing_is_imported(hsm_rig: Rig) -> None:
    sent = {"protection": "hsm", "hash_function": "SHA1", "ciphertext": "A" * 800}
    assert "wrapping_key?protection=hsm" in refused(hsm_rig, "keys.import", name="x", **sent)
    assert hsm_rig.store.reader().keys(NAMED_KEYS) == []
    assert hsm_rig.store.reader().keys(KEY_VERSIONS) == []


P384 = ec.generate_private_key(ec.SECP384R1())
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("another hash", {"hash_function": "SHA256"}, "no CKM_RSA_PKCS_OAEP with SHA256"),
    ("an unknown hash", {"hash_function": "MD5"}, "no CKM_RSA_PKCS_OAEP with MD5"),
    ("garbage", {"ciphertext": b64encode(os.urandom(552)).decode()}, "cannot be unwrapped"),
    ("no base64", {"ciphertext": "*"}, "not base64"),
    ("too long", {"ciphertext": "A" * 100_000}, "longer than any key"),
    ("nothing", {"ciphertext": ""}, "needs its private half"),
    ("only a public key", {"ciphertext": "", "type": "ecdsa-p384", "public_key": pem(P384)}, "private half"),
    ("exportable", {"exportable": True}, "exportable cannot be set"),
    ("derived", {"derived": True}, "derived cannot be set"),
    ("no HSM form", {"type": "chacha20-poly1305"}, "cannot have protection hsm"),
    ("another size", {"type": "aes128-gcm96"}, "not of type aes-128"),
    ("another kind", {"type": "ecdsa-p256"}, "cannot be unwrapped"),
    ("no such purpose", {"purpose": "party"}, "unknown purpose"),
    ("purpose of a pair", {"purpose": "decrypt"}, "do not have the purpose"),
]


@pytest.mark.parametrize(("changes", "text"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_refused_import_leaves_no_key_and_no_object(
    hsm_rig: Rig, token: Token, changes: dict[str, Any], text: str
) -> None:
    sent = {"name": "x", "type": "aes256-gcm96", "ciphertext": wrapped(hsm_rig, os.urandom(32))}
    sent |= {"protection": "hsm", "hash_function": "SHA1"}
    assert text in refused(hsm_rig, "keys.import", **sent | changes)
    reader = hsm_rig.store.reader()
    assert reader.keys(NAMED_KEYS) == []
    for row in reader.scan(KEY_VERSIONS):
        assert row.value.state is VersionState.ABANDONED
        assert isinstance(row.value.material, ResidentMaterial)
        assert not token.hsm.exists(CkaId(row.value.material.cka_id))


def test_a_name_that_is_taken_keeps_its_key(hsm_rig: Rig) -> None:
    hsm_rig.create("x", protection="software")
    before = hsm_rig.run("keys.read", name="x")
    sent = {"ciphertext": wrapped(hsm_rig, os.urandom(32)), "hash_function": "SHA1", "protection": "hsm"}
    assert "existing key" in refused(hsm_rig, "keys.import", name="x", **sent)
    assert hsm_rig.run("keys.read", name="x") == before


def test_an_aes_key_of_the_caller_encrypts_in_the_hsm(hsm_rig: Rig) -> None:
    key = os.urandom(32)
    bring(hsm_rig, "mine", "aes256-gcm96", key, allow_rotation=True)
    assert hsm_rig.steps == ["intent", "perform"]
    shown = hsm_rig.run("keys.read", name="mine")
    assert (shown["protection"], shown["imported_key"], shown["exportable"]) == ("hsm", True, False)
    sealed = hsm_rig.run("encrypt", name="mine", plaintext=b64encode(b"text").decode())["ciphertext"]
    raw = b64decode(sealed.split(":")[2])
    assert AESGCM(key).decrypt(raw[:12], raw[12:], None) == b"text"
    for row in hsm_rig.store.reader().scan(KEY_VERSIONS):
        assert not isinstance(row.value.material, SoftwareMaterial)
        assert not isinstance(row.value.mac, SoftwareMaterial)
    # A second version of the caller's, then one that is born in the HSM; all of them decrypt.
    second = os.urandom(32)
    parcel = wrapped(hsm_rig, second)
    hsm_rig.run("keys.import-version", name="mine", ciphertext=parcel, hash_function="SHA1")
    assert hsm_rig.run("keys.read", name="mine")["imported_key"] is True
    hsm_rig.run("keys.rotate", name="mine")
    assert hsm_rig.run("keys.read", name="mine")["latest_version"] == 3
    assert hsm_rig.run("decrypt", name="mine", ciphertext=sealed)["plaintext"] == b64encode(b"text").decode()
    nonce = os.urandom(12)
    theirs = b64encode(nonce + AESGCM(second).encrypt(nonce, b"two", None)).decode()
    assert (
        b64decode(hsm_rig.run("decrypt", name="mine", ciphertext=f"vault:v2:{theirs}")["plaintext"]) == b"two"
    )


@pytest.mark.parametrize("type_", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072"])
def test_a_pair_of_the_caller_signs_in_the_hsm(hsm_rig: Rig, type_: str) -> None:
    curves: dict[str, ec.EllipticCurve] = {
        "ecdsa-p256": ec.SECP256R1(),
        "ecdsa-p384": ec.SECP384R1(),
        "ecdsa-p521": ec.SECP521R1(),
    }
    private: Any = (
        ec.generate_private_key(curves[type_])
        if type_ in curves
        else rsa.generate_private_key(65537, int(type_[4:]))
    )
    bring(hsm_rig, "pair", type_, pkcs8(private))
    assert hsm_rig.run("keys.read", name="pair")["keys"]["1"]["public_key"].strip() == pem(private).strip()
    text = b64encode(b"message").decode()
    signature = hsm_rig.run("sign", name="pair", input=text)["signature"]
    assert hsm_rig.run("verify", name="pair", input=text, signature=signature)["valid"]
    raw = b64decode(signature.split(":")[2])
    if isinstance(private, ec.EllipticCurvePrivateKey):
        private.public_key().verify(raw, b"message", ec.ECDSA(hashes.SHA256()))
        with pytest.raises(InvalidSignature):
            private.public_key().verify(raw, b"massage", ec.ECDSA(hashes.SHA256()))
    said = refused(hsm_rig, "keys.import-version", name="pair", ciphertext="", version=1)
    assert "cannot be updated" in said


def test_a_type_that_the_token_does_not_unwrap_is_named(hsm_rig: Rig) -> None:
    edwards = Ed25519PrivateKey.generate()
    sent = {"ciphertext": wrapped(hsm_rig, pkcs8(edwards)), "public_key": pem(edwards)}
    said = refused(
        hsm_rig, "keys.import", name="x", type="ed25519", protection="hsm", hash_function="SHA1", **sent
    )
    assert "CKM_AES_KEY_WRAP_KWP that unwraps keys of type ed25519" in said


def test_an_hmac_key_of_the_caller(hsm_rig: Rig) -> None:
    bring(hsm_rig, "mac", "hmac", b"k" * 40)
    import hmac  # noqa: PLC0415  (the operation has the same name)

    done = hsm_rig.run("hmac", name="mac", input=b64encode(b"text").decode())["hmac"]
    assert b64decode(done.split(":")[2]) == hmac.digest(b"k" * 40, b"text", "sha256")


def test_the_wrapping_key_is_made_once_and_its_object_goes_with_the_mount(hsm_rig: Rig, token: Token) -> None:
    first = hsm_rig.run("wrapping-key", protection="hsm")
    assert hsm_rig.steps == ["intent", "perform"]
    assert hsm_rig.run("wrapping-key", protection="hsm") == first
    assert hsm_rig.steps == ["result"]
    assert hsm_rig.run("wrapping-key") != first
    material = next(
        row.value.material
        for row in hsm_rig.store.reader().scan(IMPORT_KEYS)
        if isinstance(row.value.material, ResidentMaterial)
    )
    assert material.purpose == Purpose.IMPORT_UNWRAP.value
    assert token.hsm.exists(CkaId(material.cka_id))
    with hsm_rig.store.transaction() as tx:
        hsm_rig.service.retire_mount(tx, MOUNT.id)
    hsm_rig.service.destroy_abandoned()
    assert not token.hsm.exists(CkaId(material.cka_id))
    hsm_rig.clock.sleep(4_000)
    hsm_rig.service.destroy_abandoned()
    assert hsm_rig.store.reader().keys(IMPORT_KEYS) == []


@pytest.mark.parametrize("performed", [False, True])
def test_a_crash_while_the_wrapping_key_is_made(hsm_rig: Rig, performed: bool) -> None:
    call = hsm_rig.call("wrapping-key", protection="hsm")
    outcome = call.operation.act(call)
    assert isinstance(outcome, External)
    assert outcome.begin is not None
    with hsm_rig.store.transaction() as tx:
        outcome.begin(tx)
    with pytest.raises(KmsError, match="ask again") as caught:
        hsm_rig.run("wrapping-key", protection="hsm")
    assert caught.value.kind is ErrorKind.CONFLICT
    if performed:
        outcome.perform()
    assert call.operation.resolve is not None
    resolved = call.operation.resolve(outcome.intent)
    assert resolved is not None
    result = hsm_rig.external(resolved)
    assert result.partial is not performed
    assert "public_key" in hsm_rig.run("wrapping-key", protection="hsm")
    assert hsm_rig.steps == (["result"] if performed else ["intent", "perform"])


@pytest.mark.parametrize("performed", [False, True])
def test_a_crash_while_a_key_comes_in(hsm_rig: Rig, performed: bool) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    sent = {"ciphertext": wrapped(hsm_rig, pkcs8(private)), "hash_function": "SHA1", "protection": "hsm"}
    call = hsm_rig.call("keys.import", MOUNT, name="x", type="ecdsa-p256", **sent)
    outcome = call.operation.act(call)
    assert isinstance(outcome, External)
    assert outcome.begin is not None
    with hsm_rig.store.transaction() as tx:
        outcome.begin(tx)
    if performed:
        outcome.perform()
    assert call.operation.resolve is not None
    resolved = call.operation.resolve(outcome.intent)
    assert resolved is not None
    hsm_rig.external(resolved)
    if performed:
        shown = hsm_rig.run("keys.read", name="x")
        assert shown["imported_key"] is True
        assert shown["keys"]["1"]["public_key"].strip() == pem(private).strip()
    else:
        assert hsm_rig.store.reader().keys(NAMED_KEYS) == []


# --- pairs that decrypt or derive ---


def test_an_rsa_key_in_the_hsm_decrypts_if_it_was_made_for_it(hsm_rig: Rig) -> None:
    said = refused(hsm_rig, "keys.create", name="d", type="rsa-2048", protection="hsm", purpose="decrypt")
    assert "no CKM_RSA_PKCS_OAEP with SHA256; it has SHA1" in said
    shown = hsm_rig.create("d", "rsa-2048", protection="hsm", purpose="decrypt", hash_function="sha1")
    assert (shown["supports_encryption"], shown["supports_decryption"]) == (True, True)
    assert (shown["supports_signing"], shown["purpose"], shown["hash_function"]) == (False, "decrypt", "SHA1")
    text = b64encode(b"text").decode()
    sealed = hsm_rig.run("encrypt", name="d", plaintext=text)["ciphertext"]
    assert hsm_rig.run("decrypt", name="d", ciphertext=sealed)["plaintext"] == text
    hsm_rig.run("keys.rotate", name="d")
    assert hsm_rig.run("decrypt", name="d", ciphertext=sealed)["plaintext"] == text
    bad = f"vault:v1:{b64encode(os.urandom(256)).decode()}"
    said = refused(hsm_rig, "decrypt", name="d", ciphertext=bad)
    assert said == "failed to RSA decrypt the ciphertext"
    assert said == refused(hsm_rig, "decrypt", name="d", ciphertext="vault:v1:AAAA")
    assert "does not support signing" in refused(hsm_rig, "sign", name="d", input=text)
    assert "at most" in refused(hsm_rig, "encrypt", name="d", plaintext=b64encode(bytes(215)).decode())


def test_a_signing_rsa_key_in_the_hsm_does_not_decrypt(hsm_rig: Rig) -> None:
    hsm_rig.create("s", "rsa-2048", protection="hsm")
    text = b64encode(b"text").decode()
    assert "not supported" in refused(hsm_rig, "encrypt", name="s", plaintext=text)
    sealed = f"vault:v1:{b64encode(os.urandom(256)).decode()}"
    assert "not supported" in refused(hsm_rig, "decrypt", name="s", ciphertext=sealed)


def test_an_imported_rsa_key_decrypts_what_is_old(hsm_rig: Rig) -> None:
    private = rsa.generate_private_key(65537, 2048)
    bring(hsm_rig, "old", "rsa-2048", pkcs8(private), purpose="decrypt")
    sealed = b64encode(private.public_key().encrypt(b"archive", OAEP)).decode()
    opened = hsm_rig.run("decrypt", name="old", ciphertext=f"vault:v1:{sealed}")["plaintext"]
    assert b64decode(opened) == b"archive"


def test_agreement_with_a_key_in_the_hsm(hsm_rig: Rig) -> None:
    """Both sides end with one key: ours from the HSM, the peer's in software."""
    hsm_rig.create("sig", "ecdsa-p256", protection="hsm")
    hsm_rig.create("base", "ecdsa-p256", protection="hsm", purpose="derive")
    shown = hsm_rig.run("keys.read", name="base")
    assert shown["supports_signing"] is False
    hsm_rig.create("peer", "ecdsa-p256", protection="software")
    keys = {name: hsm_rig.run("keys.read", name=name)["keys"]["1"]["public_key"] for name in ("base", "peer")}
    assert "purpose=derive" in refused(
        hsm_rig, "derive-key", name="a", base_key_name="sig", peer_public_key=keys["peer"]
    )
    assert "curve" in refused(
        hsm_rig, "derive-key", name="a", base_key_name="base", peer_public_key=pem(P384)
    )
    hsm_rig.run("derive-key", name="a", base_key_name="base", peer_public_key=keys["peer"])
    hsm_rig.run("derive-key", name="b", base_key_name="peer", peer_public_key=keys["base"])
    text = b64encode(b"text").decode()
    sealed = hsm_rig.run("encrypt", name="a", plaintext=text)["ciphertext"]
    assert hsm_rig.run("decrypt", name="b", ciphertext=sealed)["plaintext"] == text
    assert "does not support signing" in refused(hsm_rig, "sign", name="base", input=text)


def test_no_import_is_for_several_tokens(hsm_rig: Rig) -> None:
    sent = {"protection": "hsm", "multi_token": True, "ciphertext": "A" * 800}
    assert "multi_token is for keys that are born here" in refused(hsm_rig, "keys.import", name="x", **sent)
    assert "needs two enrolled HSM tokens" in refused(
        hsm_rig, "keys.create", name="x", protection="hsm", multi_token=True
    )
    assert "a software key is bound to no token" in refused(
        hsm_rig, "keys.create", name="x", protection="software", multi_token=True
    )
    assert hsm_rig.store.reader().keys(NAMED_KEYS) == []
