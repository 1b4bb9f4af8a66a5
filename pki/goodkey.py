"""Public keys that a certificate may carry, and why others may not.

The checks follow CA/B BR 6.1.1.3 and Boulder's goodkey: size, curve, exponent, what badkeys knows offline (small factors,
ROCA, close primes, primes that published keys share, moduli of broken random sources), a blocklist of
compromised keys, and the CA's own keys. Nothing here proves that a key is good; each check knows one way in which keys were bad.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kms.errors import invalid

LeafPublicKey = (
    ec.EllipticCurvePublicKey
    | rsa.RSAPublicKey
    | ed25519.Ed25519PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)

RSA_MIN_BITS = 2048
RSA_MAX_BITS = 8192  # above, verifying costs relying parties more than it gives them
_CURVES: dict[str, int] = {"secp256r1": 256, "secp384r1": 384, "secp521r1": 521}

# What badkeys asks of a modulus and an exponent, and how a finding is told (CA/B BR 6.1.1.3).
_WEAKNESSES = {
    "smallfactors": "has a small factor: make a new key",
    "roca": "has the ROCA fingerprint (CVE-2017-15361): make a new key elsewhere",
    "fermat": "has close prime factors (CVE-2022-26320): make a new key elsewhere",
    "rsapoly": "has the pattern of a broken random source and can be factored: make a new key elsewhere",
    "sharedprimes": "shares a prime factor with a published key: make a new key elsewhere",
}


def spki_der(key: PublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_hash(der: bytes) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, hex: how the blocklist and our own keys are looked up."""
    return hashlib.sha256(der).hexdigest()


class Blocklist:
    """Keys that are known to be compromised, by SHA-256 of their SubjectPublicKeyInfo.

    Args:
        hashes: lower-case hex, 64 characters each.
    """

    def __init__(self, hashes: Iterable[str] = ()) -> None:
        self._hashes = frozenset(hashes)

    @classmethod
    def load(cls, path: Path) -> Blocklist:
        """One hash a line; '#' begins a comment. Raises ValueError on anything else."""
        hashes = []
        for number, line in enumerate(path.read_text("ascii").splitlines(), 1):
            text = line.partition("#")[0].strip().lower()
            if not text:
                continue
            if len(text) != 64 or any(c not in "0123456789abcdef" for c in text):
                raise ValueError(f"{path}, line {number}: not a SHA-256 in hex")
            hashes.append(text)
        return cls(hashes)

    def __contains__(self, spki_sha256: str) -> bool:
        return spki_sha256 in self._hashes


def check(key: PublicKeyTypes, blocklist: Blocklist, is_ca_key: Callable[[str], bool]) -> LeafPublicKey:
    """Return the key if a certificate may carry it.

    Raises:
        KmsError(INVALID): with the reason.
    """
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        # The parser has checked that the point is on the curve and not at infinity.
        if key.curve.name not in _CURVES:
            raise invalid(f"unsupported curve {key.curve.name}: use P-256, P-384 or P-521")
    elif not isinstance(key, LeafPublicKey):
        raise invalid("unsupported key type: use RSA, EC, Ed25519 or ML-DSA")
    digest = spki_hash(spki_der(key))
    if digest in blocklist:
        raise invalid("this public key is on the blocklist of compromised keys: make a new one")
    if is_ca_key(digest):
        raise invalid("this public key belongs to a CA of this server: make a new one")
    return key


def key_type_and_bits(key: LeafPublicKey) -> tuple[str, int]:
    """The role vocabulary: ("rsa" | "ec" | "ed25519" | "mldsa", bits; 0 for Ed25519)."""
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ec", key.curve.key_size
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519", 0
    if isinstance(key, mldsa.MLDSA44PublicKey):
        return "mldsa", 44
    return "mldsa", 65 if isinstance(key, mldsa.MLDSA65PublicKey) else 87


def _check_rsa(key: rsa.RSAPublicKey) -> None:
    numbers = key.public_numbers()
    bits = numbers.n.bit_length()
    if bits < RSA_MIN_BITS:
        raise invalid(f"RSA keys < {RSA_MIN_BITS} bits are unsafe and not supported")
    if bits > RSA_MAX_BITS or bits % 8:
        raise invalid(f"RSA keys have at most {RSA_MAX_BITS} bits and a multiple of 8: got {bits}")
    if numbers.e < 65537 or numbers.e % 2 == 0 or numbers.e >= 1 << 256:
        raise invalid("the RSA public exponent must be odd and between 2^16+1 and 2^256-1")
    checks = _badkeys()
    for check_name, finding in _WEAKNESSES.items():
        if getattr(checks, check_name)(numbers.n, e=numbers.e):
            raise invalid(f"the RSA modulus {finding}")


@cache
def _badkeys() -> Any:
    """The library's checks, loaded when the first RSA key comes (0.3 s)."""
    return import_module("badkeys.rsakeys")
