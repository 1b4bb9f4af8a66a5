"""Using keys: what is accepted, what is refused, and that software agrees with the token."""

from __future__ import annotations

import hashlib
import secrets

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from kms.errors import ErrorKind, KmsError
from kms.hsm import Hsm, KeySpec, Purpose, Resident, Scheme, Wrapped
from kms.hsm.probe import MARK
from kms.hsm.public import PROOF_SCHEME, PROOF_SIZE, verify_proof
from kms.ids import CkaId, new_cka_id

Keys = dict[KeySpec, Wrapped]
NONCE = bytes(range(12))


@pytest.fixture(scope="module")
def keys(hsm: Hsm, roots: dict[Purpose, CkaId]) -> Keys:
    """A wrapped key of each cheap type."""
    enc, mac, sign = Purpose.ROOT_WRAP_ENC, Purpose.ROOT_WRAP_MAC, Purpose.ROOT_WRAP_SIGN
    made = {KeySpec.HMAC: hsm.generate_wrapped(Purpose.KEY_MAC, KeySpec.HMAC, roots[mac], b"c")}
    for spec in (KeySpec.AES_128, KeySpec.AES_256):
        made[spec] = hsm.generate_wrapped(Purpose.KEY_ENC, spec, roots[enc], b"c")
    for spec in (KeySpec.EC_P256, KeySpec.EC_P384, KeySpec.EC_P521, KeySpec.RSA_2048):
        made[spec] = hsm.generate_wrapped(Purpose.KEY_SIGN, spec, roots[sign], b"c")
    return made


@pytest.mark.parametrize("size", [0, 1, 16, 64, 9000, 1 << 20])
@pytest.mark.parametrize("spec", [KeySpec.AES_128, KeySpec.AES_256])
def test_encrypt_and_decrypt(hsm: Hsm, keys: Keys, spec: KeySpec, size: int) -> None:
    plain, nonce = secrets.token_bytes(size), secrets.token_bytes(12)
    sealed = hsm.encrypt(keys[spec], nonce, plain, b"aad")
    assert len(sealed) == size + 16
    assert hsm.decrypt(keys[spec], nonce, sealed, b"aad") == plain


def test_everything_wrong_with_a_ciphertext_is_the_same_refusal(hsm: Hsm, keys: Keys) -> None:
    key = keys[KeySpec.AES_256]
    sealed = hsm.encrypt(key, NONCE, b"plaintext", b"aad")
    flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
    bad = {
        "tag": (key, NONCE, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"aad"),
        "body": (key, NONCE, flipped, b"aad"),
        "truncated": (key, NONCE, sealed[:-1], b"aad"),
        "too short": (key, NONCE, sealed[:15], b"aad"),
        "empty": (key, NONCE, b"", b"aad"),
        "aad": (key, NONCE, sealed, b"aae"),
        "nonce": (key, bytes(12), sealed, b"aad"),
        "nonce size": (key, bytes(11), sealed, b"aad"),
        "key": (keys[KeySpec.AES_128], NONCE, sealed, b"aad"),
    }
    refusals = set()
    for arguments in bad.values():
        with pytest.raises(KmsError) as caught:
            hsm.decrypt(*arguments)
        refusals.add((caught.value.kind, caught.value.detail))
    assert len(refusals) == 1
    assert refusals.pop()[0] is ErrorKind.INVALID


def test_a_wrong_ciphertext_does_not_reopen_the_token(hsm: Hsm, keys: Keys) -> None:
    """SoftHSM answers GeneralError to a wrong tag; a caller must not reset the HSM for everybody with it."""
    before = hsm.gate._connection
    for _ in range(20):
        with pytest.raises(KmsError):
            hsm.decrypt(keys[KeySpec.AES_256], NONCE, bytes(32), b"")
    assert hsm.gate._connection is before


def test_seal_is_bound_to_root_and_context(hsm: Hsm, roots: dict[Purpose, CkaId]) -> None:
    root = roots[Purpose.ROOT_SEAL]
    sealed = hsm.seal(root, b"keyring", b"term 1")
    assert hsm.unseal(root, sealed, b"term 1") == b"keyring"
    assert hsm.seal(root, b"keyring", b"term 1") != sealed
    other = new_cka_id()
    hsm.generate(Purpose.ROOT_SEAL, KeySpec.AES_256, other, "other seal")
    bad = [
        (other, sealed, b"term 1"),
        (root, sealed, b"term 2"),
        (root, b"\x02" + sealed[1:], b"term 1"),
        (root, sealed[:20], b"term 1"),
        (root, b"", b"term 1"),
        (root, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"term 1"),
    ]
    for arguments in bad:
        with pytest.raises(KmsError) as caught:
            hsm.unseal(*arguments)
        assert caught.value.kind is ErrorKind.INTEGRITY
    hsm.destroy(other)


def test_a_root_does_one_thing_only(hsm: Hsm, roots: dict[Purpose, CkaId], keys: Keys) -> None:
    """Sealing and wrapping are different objects, and neither is a key that callers use."""
    seal, wrap = roots[Purpose.ROOT_SEAL], roots[Purpose.ROOT_WRAP_ENC]
    with pytest.raises(KmsError, match="demands"):
        hsm.seal(wrap, b"x", b"")
    with pytest.raises(KmsError, match="demands"):
        hsm.generate_wrapped(Purpose.KEY_ENC, KeySpec.AES_256, seal, b"c")
    with pytest.raises(KmsError, match="never wrapped"):
        hsm.generate_wrapped(Purpose.CA_SIGN, KeySpec.EC_P256, roots[Purpose.ROOT_WRAP_SIGN], b"c")
    for purpose in (Purpose.ROOT_SEAL, Purpose.SENTINEL, Purpose.ROOT_WRAP_ENC):
        with pytest.raises(KmsError, match="cannot do this"):
            hsm.encrypt(Resident(seal, purpose, KeySpec.AES_256), NONCE, b"", b"")
    with pytest.raises(KmsError, match="cannot do this"):
        hsm.sign(keys[KeySpec.HMAC], Scheme.ECDSA, bytes(32))
    with pytest.raises(KmsError, match="cannot do this"):
        hsm.mac(keys[KeySpec.EC_P256], "sha256", b"")
    with pytest.raises(KmsError, match="cannot do this"):
        hsm.decrypt(keys[KeySpec.HMAC], NONCE, bytes(16), b"")


@pytest.mark.parametrize(("name", "size"), [("sha224", 28), ("sha256", 32), ("sha384", 48), ("sha512", 64)])
def test_mac(hsm: Hsm, keys: Keys, name: str, size: int) -> None:
    tag = hsm.mac(keys[KeySpec.HMAC], name, b"data")
    assert len(tag) == size
    assert tag == hsm.mac(keys[KeySpec.HMAC], name, b"data")
    assert tag != hsm.mac(keys[KeySpec.HMAC], name, b"dat")
    assert len(hsm.mac(keys[KeySpec.HMAC], name, b"")) == size


def test_mac_refusals(hsm: Hsm, keys: Keys) -> None:
    with pytest.raises(KmsError, match="unknown hash"):
        hsm.mac(keys[KeySpec.HMAC], "md5", b"")
    with pytest.raises(KmsError) as caught:
        hsm.mac(keys[KeySpec.HMAC], "sha3-256", b"")
    assert caught.value.kind is ErrorKind.INVALID


@pytest.mark.parametrize("spec", [KeySpec.EC_P256, KeySpec.EC_P384, KeySpec.EC_P521])
@pytest.mark.parametrize("size", [20, 28, 32, 48, 64])
def test_ecdsa_signs_every_digest_size(hsm: Hsm, keys: Keys, spec: KeySpec, size: int) -> None:
    digest = secrets.token_bytes(size)
    signature = hsm.sign(keys[spec], Scheme.ECDSA, digest)
    half = len(signature) // 2
    der = utils.encode_dss_signature(
        int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    )
    algorithm = {20: hashes.SHA1(), 28: hashes.SHA224(), 32: hashes.SHA256(), 48: hashes.SHA384()}  # noqa: S303  # only names the digest's size
    public = serialization.load_der_public_key(keys[spec].public)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(der, digest, ec.ECDSA(utils.Prehashed(algorithm.get(size, hashes.SHA512()))))


HASHES: dict[int, hashes.HashAlgorithm] = {
    28: hashes.SHA224(),
    32: hashes.SHA256(),
    48: hashes.SHA384(),
    64: hashes.SHA512(),
}
SHA3: dict[int, hashes.HashAlgorithm] = {
    28: hashes.SHA3_224(),
    32: hashes.SHA3_256(),
    48: hashes.SHA3_384(),
    64: hashes.SHA3_512(),
}


@pytest.mark.parametrize(
    "scheme", [each for each in Scheme if each.startswith("rsa-") and each != "rsa-pkcs1-none"]
)
def test_rsa(hsm: Hsm, keys: Keys, scheme: Scheme) -> None:
    size = int(scheme[-3:]) // 8
    algorithm = (SHA3 if "sha3-" in scheme else HASHES)[size]
    digest = secrets.token_bytes(size)
    public = serialization.load_der_public_key(keys[KeySpec.RSA_2048].public)
    assert isinstance(public, rsa.RSAPublicKey)
    if scheme.startswith("rsa-pss"):
        for salt in (size, 0, 20):
            signature = hsm.sign(keys[KeySpec.RSA_2048], scheme, digest, salt_length=salt)
            pss = padding.PSS(padding.MGF1(algorithm), salt)
            public.verify(signature, digest, pss, utils.Prehashed(algorithm))
        with pytest.raises(KmsError, match="salt"):
            hsm.sign(keys[KeySpec.RSA_2048], scheme, digest, salt_length=256)
    else:
        signature = hsm.sign(keys[KeySpec.RSA_2048], scheme, digest)
        public.verify(signature, digest, padding.PKCS1v15(), utils.Prehashed(algorithm))
    with pytest.raises(KmsError, match="digest of"):
        hsm.sign(keys[KeySpec.RSA_2048], scheme, digest + b"x")


def test_rsa_without_a_digest_info(hsm: Hsm, keys: Keys) -> None:
    public = serialization.load_der_public_key(keys[KeySpec.RSA_2048].public)
    assert isinstance(public, rsa.RSAPublicKey)
    signature = hsm.sign(keys[KeySpec.RSA_2048], Scheme.RSA_PKCS1_NONE, b"seventeen bytes..")
    assert public.recover_data_from_signature(signature, padding.PKCS1v15(), None) == b"seventeen bytes.."
    with pytest.raises(KmsError, match="too long"):
        hsm.sign(keys[KeySpec.RSA_2048], Scheme.RSA_PKCS1_NONE, bytes(246))


BAD_SIGN = [
    (KeySpec.EC_P256, Scheme.EDDSA, bytes(32)),
    (KeySpec.EC_P256, Scheme.RSA_PKCS1_SHA256, bytes(32)),
    (KeySpec.EC_P256, Scheme.RSA_PSS_SHA256, bytes(32)),
    (KeySpec.EC_P256, Scheme.ECDSA, b""),
    (KeySpec.EC_P256, Scheme.ECDSA, bytes(65)),
    (KeySpec.RSA_2048, Scheme.ECDSA, bytes(32)),
    (KeySpec.RSA_2048, Scheme.RSA_PSS_SHA256, bytes(20)),
]


@pytest.mark.parametrize(("spec", "scheme", "payload"), BAD_SIGN)
def test_schemes_belong_to_key_types(
    hsm: Hsm, keys: Keys, spec: KeySpec, scheme: Scheme, payload: bytes
) -> None:
    with pytest.raises(KmsError) as caught:
        hsm.sign(keys[spec], scheme, payload)
    assert caught.value.kind is ErrorKind.INVALID


MARKED = [MARK + bytes(16), MARK, b"0" + MARK]


@pytest.mark.parametrize("payload", MARKED)
def test_nobody_can_have_a_probe_made(hsm: Hsm, keys: Keys, payload: bytes) -> None:
    """A caller who could sign or MAC a probe's bytes could put his key under another name."""
    for spec, scheme in ((KeySpec.EC_P256, Scheme.ECDSA), (KeySpec.RSA_2048, Scheme.RSA_PKCS1_NONE)):
        with pytest.raises(KmsError, match="reserved") as caught:
            hsm.sign(keys[spec], scheme, payload)
        assert caught.value.kind is ErrorKind.INVALID
    with pytest.raises(KmsError, match="reserved") as caught:
        hsm.mac(keys[KeySpec.HMAC], "sha256", payload)
    assert caught.value.kind is ErrorKind.INVALID


@pytest.mark.parametrize("spec", [KeySpec.ED25519, KeySpec.EC_P256, KeySpec.EC_P384])
def test_resident_pairs_sign(hsm: Hsm, spec: KeySpec) -> None:
    cka_id = new_cka_id()
    spki = hsm.generate(Purpose.CA_SIGN, spec, cka_id, f"resident {spec}")
    assert hsm.public_key(cka_id) == spki
    payload = hashlib.sha512(b"x").digest()[: PROOF_SIZE[spec]]
    ref = Resident(cka_id, Purpose.CA_SIGN, spec)
    signature = hsm.sign(ref, PROOF_SCHEME[spec], payload)
    assert verify_proof(spki, spec, payload, signature)
    if spec is KeySpec.ED25519:
        with pytest.raises(KmsError, match="does not sign"):
            hsm.sign(ref, Scheme.ECDSA, payload)
    hsm.destroy(cka_id)


@pytest.mark.parametrize("size", [1, 12, 32, 4096, 1 << 20])
def test_random(hsm: Hsm, size: int) -> None:
    assert len(hsm.random(size)) == size
    assert size < 12 or hsm.random(size) != hsm.random(size)


@pytest.mark.parametrize("size", [0, -1, (1 << 20) + 1])
def test_random_is_bounded(hsm: Hsm, size: int) -> None:
    with pytest.raises(KmsError):
        hsm.random(size)
