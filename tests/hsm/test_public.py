"""Public keys and software verification: the independent eye on the token's answers."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.hashes import SHA256
from pkcs11.constants import Attribute
from pkcs11.mechanisms import KeyType

from kms.errors import KmsError
from kms.hsm import KeySpec
from kms.hsm.mechanisms import SPECS
from kms.hsm.public import spec_of, spki_of, verify_proof

POINT = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
)


class Stored(dict[Attribute, Any]):
    """A public key object of a token."""

    def get_attributes(self, names: list[Attribute]) -> dict[Attribute, Any]:
        return {name: self[name] for name in names if name in self}


@pytest.mark.parametrize("point", [POINT, b"\x04\x41" + POINT], ids=["bare", "octet string"])
def test_points_with_and_without_octet_string(point: bytes) -> None:
    """PKCS#11 2.40 wants DER, some modules give the bare point."""
    key = serialization.load_der_public_key(spki_of(Stored({Attribute.EC_POINT: point}), KeySpec.EC_P256))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    raw = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    assert raw == POINT


BAD = [
    (KeySpec.EC_P256, {Attribute.EC_POINT: b""}),
    (KeySpec.EC_P256, {Attribute.EC_POINT: b"\x04\x41" + POINT[:-1]}),
    (KeySpec.EC_P256, {Attribute.EC_POINT: b"\x04\x41\x04" + bytes(64)}),
    (KeySpec.EC_P384, {Attribute.EC_POINT: b"\x04\x41" + POINT}),
    (KeySpec.ED25519, {Attribute.EC_POINT: b"\x04\x1f" + bytes(31)}),
    (KeySpec.EC_P256, {}),
    (KeySpec.RSA_2048, {Attribute.MODULUS: b"\x01", Attribute.PUBLIC_EXPONENT: b"\x03"}),
    (KeySpec.RSA_2048, {}),
]


@pytest.mark.parametrize(("spec", "attributes"), BAD)
def test_what_is_no_public_key_is_refused(spec: KeySpec, attributes: dict[Attribute, Any]) -> None:
    with pytest.raises(KmsError, match="not a valid"):
        spki_of(Stored(attributes), spec)


def test_spec_of() -> None:
    rsa = {Attribute.KEY_TYPE: KeyType.RSA}
    assert spec_of(Stored({**rsa, Attribute.MODULUS: bytes(256)})) is KeySpec.RSA_2048
    assert spec_of(Stored({**rsa, Attribute.MODULUS: bytes(128)})) is None
    for spec in (KeySpec.EC_P256, KeySpec.EC_P384, KeySpec.EC_P521, KeySpec.ED25519):
        stored = {Attribute.KEY_TYPE: SPECS[spec].key_type, Attribute.EC_PARAMS: SPECS[spec].curve}
        assert spec_of(Stored(stored)) is spec
    assert spec_of(Stored({Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: b"\x06\x00"})) is None


def der(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def test_verify_proof_takes_only_its_own_key_type() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    digest = bytes(range(32))
    r, s = utils.decode_dss_signature(private.sign(digest, ec.ECDSA(utils.Prehashed(SHA256()))))
    good = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    public = der(private.public_key())
    assert verify_proof(public, KeySpec.EC_P256, digest, good)
    other = ed25519.Ed25519PrivateKey.generate()
    assert verify_proof(der(other.public_key()), KeySpec.ED25519, digest, other.sign(digest))
    refused = [
        (public, KeySpec.EC_P384, digest, good),
        (public, KeySpec.ED25519, digest, good),
        (public, KeySpec.RSA_2048, digest, good),
        (public, KeySpec.EC_P256, digest, good + b"\0"),
        (public, KeySpec.EC_P256, digest, b""),
        (public, KeySpec.EC_P256, bytes(32), good),
        (public, KeySpec.EC_P256, digest, bytes(64)),
        (public, KeySpec.EC_P256, digest, s.to_bytes(32, "big") + r.to_bytes(32, "big")),
        (der(other.public_key()), KeySpec.EC_P256, digest, good),
        (der(other.public_key()), KeySpec.ED25519, digest, good),
        (b"", KeySpec.EC_P256, digest, good),
    ]
    for arguments in refused:
        assert not verify_proof(*arguments)
