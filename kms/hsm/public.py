"""Public keys: from token attributes to SubjectPublicKeyInfo, and checking signatures in software.

Everything here is public data; it is the independent eye on what the token answers.
"""

from __future__ import annotations

from typing import Any, Final

from asn1crypto.core import OctetString
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from pkcs11.constants import Attribute
from pkcs11.mechanisms import KeyType

from kms.errors import integrity, invalid
from kms.hsm.mechanisms import SPECS
from kms.hsm.model import KeySpec, Scheme

_CURVES: Final[dict[KeySpec, ec.EllipticCurve]] = {
    KeySpec.EC_P256: ec.SECP256R1(),
    KeySpec.EC_P384: ec.SECP384R1(),
    KeySpec.EC_P521: ec.SECP521R1(),
}
_HASHES: Final[dict[int, hashes.HashAlgorithm]] = {
    32: hashes.SHA256(),
    48: hashes.SHA384(),
    64: hashes.SHA512(),
}

OAEP_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1(),  # noqa: S303  # OAEP does not rest on collisions, and SoftHSM knows no other
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

# The scheme by which a pair of each kind proves itself: probes, pairwise checks, self-tests.
PROOF_SCHEME: Final = {
    spec: Scheme.ECDSA
    if spec in _CURVES
    else Scheme.EDDSA
    if spec is KeySpec.ED25519
    else Scheme.RSA_PKCS1_SHA256
    for spec in KeySpec
    if spec.is_pair
}
PROOF_SIZE: Final = {
    spec: 48 if spec is KeySpec.EC_P384 else 64 if spec is KeySpec.EC_P521 else 32 for spec in PROOF_SCHEME
}


def _der(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _point(raw: bytes, sizes: tuple[int, ...]) -> bytes:
    """CKA_EC_POINT is a DER OCTET STRING (PKCS#11 2.40 2.3.3); some modules give the bare point."""
    octets: Any = OctetString
    return raw if len(raw) in sizes else bytes(octets.load(raw, strict=True))


def spki_of(public_key: Any, spec: KeySpec) -> bytes:
    """SubjectPublicKeyInfo in DER of a public key object.

    Raises:
        KmsError(INTEGRITY): the object is not a key of that type.
    """
    row = SPECS[spec]
    try:
        if row.key_type is KeyType.RSA:
            numbers = public_key.get_attributes([Attribute.MODULUS, Attribute.PUBLIC_EXPONENT])
            modulus = int.from_bytes(numbers[Attribute.MODULUS], "big")
            exponent = int.from_bytes(numbers[Attribute.PUBLIC_EXPONENT], "big")
            return _der(rsa.RSAPublicNumbers(exponent, modulus).public_key())
        raw = bytes(public_key[Attribute.EC_POINT])
        if spec is KeySpec.ED25519:
            return _der(ed25519.Ed25519PublicKey.from_public_bytes(_point(raw, (32,))))
        point = _point(raw, (2 * row.coordinate + 1,))
        return _der(ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[spec], point))
    except (KeyError, ValueError, TypeError) as error:
        raise integrity(f"the token's public key is not a valid {spec} key") from error


def spec_of(public_key: Any) -> KeySpec | None:
    """The key type of a public key object; None if it is none of ours."""
    key_type = public_key[Attribute.KEY_TYPE]
    if key_type is KeyType.RSA:
        bits = len(bytes(public_key[Attribute.MODULUS])) * 8
        return next((s for s, row in SPECS.items() if row.key_type is KeyType.RSA and row.bits == bits), None)
    curve = bytes(public_key[Attribute.EC_PARAMS])
    return next((s for s, row in SPECS.items() if row.curve == curve), None)


def verify_proof(spki: bytes, spec: KeySpec, payload: bytes, signature: bytes) -> bool:
    """Check, in software, a signature made with PROOF_SCHEME over PROOF_SIZE bytes."""
    try:
        key = serialization.load_der_public_key(spki)
        if isinstance(key, ec.EllipticCurvePublicKey) and spec in _CURVES:
            half = SPECS[spec].coordinate
            if key.curve.name != _CURVES[spec].name or len(signature) != 2 * half:
                return False
            r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
            algorithm = ec.ECDSA(utils.Prehashed(_HASHES[len(payload)]))
            key.verify(utils.encode_dss_signature(r, s), payload, algorithm)
        elif isinstance(key, ed25519.Ed25519PublicKey) and spec is KeySpec.ED25519:
            key.verify(signature, payload)
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size == SPECS[spec].bits:
            key.verify(signature, payload, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True


def oaep_encrypt(key: rsa.RSAPublicKey, hash_name: str, message: bytes) -> bytes:
    """RSA-OAEP with MGF1 of the same hash and no label.

    Raises:
        KmsError(INVALID): the message is too long for the key.
    """
    algorithm = OAEP_HASHES[hash_name]
    limit = key.key_size // 8 - 2 * algorithm.digest_size - 2
    if len(message) > limit:
        raise invalid(f"at most {limit} bytes fit into one block of this RSA key")
    return key.encrypt(message, padding.OAEP(padding.MGF1(algorithm), algorithm, None))


def load_rsa(spki: bytes) -> rsa.RSAPublicKey:
    """An RSA public key from its SubjectPublicKeyInfo.

    Raises:
        KmsError(INTEGRITY): it is of another type.
    """
    key = serialization.load_der_public_key(spki)
    if not isinstance(key, rsa.RSAPublicKey):
        raise integrity("a public key that must be RSA is of another type")
    return key


def point_of(public: ec.EllipticCurvePublicKey) -> bytes:
    """The uncompressed point (SEC 1 2.3.3), as CKM_ECDH1_DERIVE takes it."""
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def curve_of(spec: KeySpec) -> ec.EllipticCurve:
    """The curve of an EC key type."""
    return _CURVES[spec]
