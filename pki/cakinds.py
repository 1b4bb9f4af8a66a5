"""The closed table of CA key types: what the API calls key_type and key_bits, and what holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from kms.errors import invalid
from kms.hsm import KeySpec
from pki.schemes import CaPrivateKey

MLDSA: dict[int, tuple[Any, Any]] = {
    44: (mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey),
    65: (mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey),
    87: (mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey),
}
MLDSA_SIGNATURE_BYTES = {44: 2420, 65: 3309, 87: 4627}  # FIPS 204 table 2
CURVES: dict[int, ec.EllipticCurve] = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
DEFAULT_BITS = {"rsa": 2048, "ec": 256, "ed25519": 0, "mldsa": 44}


@dataclass(frozen=True, slots=True)
class CaKind:
    """One type and size. `spec` is its stored name; `hsm` None where no token makes such keys."""

    spec: str
    key_type: str
    bits: int
    hsm: KeySpec | None


_ALL = (
    CaKind("rsa-2048", "rsa", 2048, KeySpec.RSA_2048),
    CaKind("rsa-3072", "rsa", 3072, KeySpec.RSA_3072),
    CaKind("rsa-4096", "rsa", 4096, KeySpec.RSA_4096),
    CaKind("rsa-8192", "rsa", 8192, None),
    CaKind("ec-p256", "ec", 256, KeySpec.EC_P256),
    CaKind("ec-p384", "ec", 384, KeySpec.EC_P384),
    CaKind("ec-p521", "ec", 521, KeySpec.EC_P521),
    CaKind("ed25519", "ed25519", 0, KeySpec.ED25519),
    *(CaKind(f"mldsa-{bits}", "mldsa", bits, None) for bits in MLDSA),
)
KINDS = {kind.spec: kind for kind in _ALL}
_BY_API = {(kind.key_type, kind.bits): kind for kind in _ALL}


def ca_kind(key_type: str, bits: int) -> CaKind:
    """The kind that the API asks for; 0 bits is the type's default.

    Raises:
        KmsError(INVALID): not one of the table.
    """
    if key_type not in DEFAULT_BITS:
        raise invalid(f"unknown key type {key_type}")
    if key_type == "rsa" and 0 < bits < 2048:
        raise invalid(f"RSA keys < 2048 bits are unsafe and not supported: got {bits}")
    wanted = 0 if key_type == "ed25519" else bits or DEFAULT_BITS[key_type]
    kind = _BY_API.get((key_type, wanted))
    if kind is None:
        raise invalid(f"unsupported bit length for {key_type.upper()} key: {bits}")
    return kind


def kind_of(key: object) -> CaKind | None:
    """The kind of a private or public key; None for one that no CA here has."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return _BY_API.get(("rsa", key.key_size))
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        bits = next((bits for bits, curve in CURVES.items() if curve.name == key.curve.name), -1)
        return _BY_API.get(("ec", bits))
    if isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        return _BY_API["ed25519", 0]
    return next((_BY_API["mldsa", bits] for bits, pair in MLDSA.items() if isinstance(key, pair)), None)


def generate(kind: CaKind) -> CaPrivateKey:
    """A fresh key from OpenSSL's random source."""
    if kind.key_type == "rsa":
        return rsa.generate_private_key(65537, kind.bits)
    if kind.key_type == "ec":
        return ec.generate_private_key(CURVES[kind.bits])
    if kind.key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    made: CaPrivateKey = MLDSA[kind.bits][0].generate()
    return made
