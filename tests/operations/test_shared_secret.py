"""shared-secret: the ECDH of a key with somebody's public key, against the other side's own computation."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from kms.errors import ErrorKind, KmsError
from tests.keys.rig import Rig

CURVES = {
    "ecdsa-p256": ec.SECP256R1(),
    "ecdsa-p384": ec.SECP384R1(),
    "ecdsa-p521": ec.SECP521R1(),
}
PROTECTIONS = ("software", "hsm")


def pem(public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def own(rig: Rig, version: int = 1) -> ec.EllipticCurvePublicKey:
    """The named key's public half, as the other side has it."""
    public = load_pem_public_key(rig.run("keys.read", name="k")["keys"][str(version)]["public_key"].encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return public


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("type_", CURVES)
def test_both_sides_have_the_same_secret(hsm_rig: Rig, type_: str, protection: str) -> None:
    hsm_rig.create("k", type_, protection=protection, purpose="derive")
    hsm_rig.run("keys.rotate", name="k")
    theirs = ec.generate_private_key(CURVES[type_])
    for asked, version in ((0, 2), (1, 1), (2, 2)):
        told = hsm_rig.run(
            "shared-secret", name="k", peer_public_key=pem(theirs.public_key()), key_version=asked
        )
        assert b64decode(told["shared_secret"]) == theirs.exchange(ec.ECDH(), own(hsm_rig, version))
        assert told["key_version"] == version
        assert hsm_rig.steps == ["result"]


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_what_does_not_fit_is_refused(hsm_rig: Rig, protection: str) -> None:
    hsm_rig.create("k", "ecdsa-p256", protection=protection, purpose="derive")
    hsm_rig.create("signs", "ecdsa-p256", protection="hsm")
    hsm_rig.create("aes")
    good = pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    # A point that is not on the curve would give away the private key bit by bit.
    der = b64decode("".join(good.splitlines()[1:-1]))
    bent = b64encode(der[:-1] + bytes([der[-1] ^ 1])).decode()
    cases = {
        "peer public key not provided": ("k", "", 0),
        "failed to parse": ("k", "no key", 0),
        "holds no valid public key": (
            "k",
            f"-----BEGIN PUBLIC KEY-----\n{bent}\n-----END PUBLIC KEY-----\n",
            0,
        ),
        "does not match peer": ("k", pem(ec.generate_private_key(ec.SECP384R1()).public_key()), 0),
        "not on an elliptic curve": ("k", pem(ed25519.Ed25519PrivateKey.generate().public_key()), 0),
        "higher than the latest": ("k", good, 2),
        "cannot be negative": ("k", good, -1),
        "base key not found": ("nosuch", good, 0),
        "does not support key agreement": ("aes", good, 0),
        "made with purpose=derive": ("signs", good, 0),
    }
    for words, (name, peer, version) in cases.items():
        with pytest.raises(KmsError) as caught:
            hsm_rig.run("shared-secret", name=name, peer_public_key=peer, key_version=version)
        assert caught.value.kind is ErrorKind.INVALID
        assert words in caught.value.detail


def test_a_suspended_or_deleted_key_agrees_on_nothing(rig: Rig) -> None:
    rig.create("k", "ecdsa-p256", protection="software")
    good = pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    rig.run("shared-secret", name="k", peer_public_key=good)
    rig.run("keys.suspend", name="k", reason="drill")
    with pytest.raises(KmsError, match="suspended"):
        rig.run("shared-secret", name="k", peer_public_key=good)
    rig.run("keys.resume", name="k")
    rig.run("keys.soft-delete", name="k")
    with pytest.raises(KmsError, match="deleted"):
        rig.run("shared-secret", name="k", peer_public_key=good)
