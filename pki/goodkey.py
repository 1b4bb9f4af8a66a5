"""Public keys that a certificate may carry, and why others may not.

The checks follow CA/B BR 6.1.1.3 and Boulder's goodkey: size, curve, exponent, small factors, ROCA
(CVE-2017-15361), close primes (CVE-2022-26320), a blocklist of compromised keys, and the CA's own
keys. Nothing here proves that a key is good; each check knows one way in which keys were bad.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from pathlib import Path

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
_FERMAT_ROUNDS = 110  # Boulder's count; each round is one integer square root


def _primes(limit: int) -> list[int]:
    return [n for n in range(2, limit) if all(n % d for d in range(2, math.isqrt(n) + 1))]


_SMALL_PRODUCT = math.prod(_primes(752))  # BR 6.1.6: no factor smaller than 752


def _powers_of_65537(prime: int) -> frozenset[int]:
    found, value = set(), 1
    while value not in found:
        found.add(value)
        value = value * 65537 % prime
    return frozenset(found)


# Primes of Infineon's library are k*M + 65537^a mod M, so such a modulus is a power of 65537 modulo
# every prime factor of M. A random one passes all of these with probability about 2^-27.
_ROCA = [(p, _powers_of_65537(p)) for p in _primes(168) if p > 2]


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
    if math.gcd(numbers.n, _SMALL_PRODUCT) != 1:
        raise invalid("the RSA modulus has a small factor: make a new key")
    if has_roca_fingerprint(numbers.n):
        raise invalid("the RSA modulus has the ROCA fingerprint (CVE-2017-15361): make a new key elsewhere")
    if has_close_primes(numbers.n):
        raise invalid("the RSA modulus has close prime factors (CVE-2022-26320): make a new key elsewhere")


def has_roca_fingerprint(modulus: int) -> bool:
    """Whether the modulus looks like one of Infineon's library."""
    return all(modulus % prime in residues for prime, residues in _ROCA)


def has_close_primes(modulus: int) -> bool:
    """Whether Fermat's method factors it in a few rounds."""
    a = math.isqrt(modulus)
    if a * a == modulus:
        return True
    for _ in range(_FERMAT_ROUNDS):
        a += 1
        b2 = a * a - modulus
        # Squares are 0, 1, 4, 9 mod 16: skips three square roots in four.
        if b2 & 15 in {0, 1, 4, 9} and math.isqrt(b2) ** 2 == b2:
            return True
    return False
