"""Keys of protection software: making their bytes, and reading them back into key objects.

Stored as a raw key (symmetric types) or as PKCS#8 DER (pairs); public halves as
SubjectPublicKeyInfo DER.
"""

from __future__ import annotations

import os
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, mlkem, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from kms.errors import integrity
from kms.keys.aead import Derivation
from kms.keys.catalogue import Algorithm, Kind
from kms.keys.model import NamedKey, SoftwareMaterial

MldsaPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
MlkemPrivateKey = mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey
PrivateKey = (
    ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey | MldsaPrivateKey | MlkemPrivateKey
)

CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "ecdsa-p256": ec.SECP256R1(),
    "ecdsa-p384": ec.SECP384R1(),
    "ecdsa-p521": ec.SECP521R1(),
    "ecdsa-secp256k1": ec.SECP256K1(),
}
# Types of one parameter set each: name -> (private, public).
POST_QUANTUM: Final[dict[str, tuple[Any, Any]]] = {
    "mldsa-44": (mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey),
    "mldsa-65": (mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey),
    "mldsa-87": (mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey),
    "mlkem-768": (mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey),
    "mlkem-1024": (mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey),
}
_EXPONENT: Final = 65537


def generate(key: NamedKey) -> tuple[SoftwareMaterial, bytes]:
    """New material for one version of a key, and its public half (empty for symmetric types)."""
    algorithm = key.algorithm
    if algorithm.kind is Kind.MAC:
        return SoftwareMaterial(os.urandom(key.key_size)), b""
    if not algorithm.title:
        return SoftwareMaterial(os.urandom(algorithm.bits // 8)), b""
    return pair(generate_private(algorithm))


def generate_private(algorithm: Algorithm) -> PrivateKey:
    """A new pair of this type, which must be one of pairs. RSA takes up to seconds."""
    if algorithm.kind is Kind.EDWARDS:
        return Ed25519PrivateKey.generate()
    if algorithm.kind is Kind.EC:
        return ec.generate_private_key(CURVES[algorithm.name])
    if algorithm.name in POST_QUANTUM:
        made: PrivateKey = POST_QUANTUM[algorithm.name][0].generate()
        return made
    return rsa.generate_private_key(public_exponent=_EXPONENT, key_size=algorithm.bits)


def pair(private: PrivateKey) -> tuple[SoftwareMaterial, bytes]:
    """The stored form of a pair."""
    secret = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return SoftwareMaterial(secret), public


def type_of(half: object) -> str:
    """Our name of the type of a private or public key; "" for none that we have."""
    if isinstance(half, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return next((name for name, curve in CURVES.items() if curve.name == half.curve.name), "")
    if isinstance(half, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return f"rsa-{half.key_size}"
    if isinstance(half, Ed25519PrivateKey | Ed25519PublicKey):
        return "ed25519"
    return next((name for name, halves in POST_QUANTUM.items() if isinstance(half, halves)), "")


def load_private(secret: bytes) -> PrivateKey:
    """The private key of a stored pair.

    Raises:
        KmsError(INTEGRITY): a type that we never store.
    """
    # The consistency of our own key pair was checked when it was made, and the row is sealed.
    private = load_der_private_key(secret, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, PrivateKey):
        raise integrity("a stored private key is of a type that we never make")
    return private


def seed_and_public(private: Ed25519PrivateKey) -> bytes:
    """Seed || public key, the 64 bytes that the Vault API calls an Ed25519 private key."""
    return private.private_bytes_raw() + private.public_key().public_bytes_raw()


def derivation(key: NamedKey, secret: bytes) -> Derivation:
    """What keys of contexts are derived from. For Ed25519, seed || public key (as in the Vault API)."""
    algorithm = key.algorithm
    if algorithm.kind is Kind.EDWARDS:
        private = load_private(secret)
        if not isinstance(private, Ed25519PrivateKey):
            raise integrity("a stored Ed25519 key is of another type")
        secret = seed_and_public(private)
    return Derivation(
        algorithm.name,
        secret,
        algorithm.bits // 8,
        algorithm.nonce_bytes,
        convergent=key.convergent_encryption,
    )
