"""T-55b: weak keys. One row per way in which keys were bad."""

from __future__ import annotations

import hashlib
import math
import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from kms.errors import KmsError
from pki import goodkey
from pki.goodkey import Blocklist


def _no_ca_key(_: str) -> bool:
    return False


def check(key: PublicKeyTypes) -> None:
    goodkey.check(key, Blocklist(), _no_ca_key)


def rsa_public(n: int, e: int = 65537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(e, n).public_key()


SMALL = math.prod(p for p in range(2, 65537) if all(p % d for d in range(2, math.isqrt(p) + 1)))
TINY = math.prod(p for p in range(2, 168) if all(p % d for d in range(2, math.isqrt(p) + 1)))


def factor(bits: int) -> int:
    """A number without small factors: what the checks cannot tell from a prime."""
    while True:
        n = secrets.randbits(bits) | 3 << bits - 2 | 1
        if math.gcd(n, SMALL) == 1:
            return n


def neighbour(p: int) -> int:
    q = p + 1000
    while math.gcd(q, SMALL) != 1:
        q += 1
    return q


def roca_factor(bits: int) -> int:
    """k*M + 65537^a mod M, as Infineon's library made primes."""
    while True:
        k = secrets.randbits(bits - TINY.bit_length() + 1)
        p = k * TINY + pow(65537, secrets.randbits(64), TINY)
        if p.bit_length() == bits and math.gcd(p, SMALL) == 1:
            return p


@pytest.fixture(scope="module")
def good() -> rsa.RSAPublicNumbers:
    return rsa.generate_private_key(65537, 2048).public_key().public_numbers()


def test_a_close_pair_of_primes_is_refused() -> None:
    p = factor(1024)
    with pytest.raises(KmsError, match="close prime factors"):
        check(rsa_public(p * neighbour(p)))


def test_a_square_is_refused() -> None:
    p = factor(1024)
    with pytest.raises(KmsError, match="close prime factors"):
        check(rsa_public(p * p))


def test_a_modulus_of_infineons_kind_is_refused() -> None:
    n = 0
    while n.bit_length() != 2048:
        n = roca_factor(1024) * roca_factor(1024)
    with pytest.raises(KmsError, match="ROCA"):
        check(rsa_public(n))


PUBLISHED = """
MIIBCgKCAQEAtQS720djHoBY2eXEDsMNGi6GWY/B37TyGO6tAgQJnweAvk5ABi3AKaOJzHQLmqpkzzh92z2FHzZpKoOiy4Eq0tt4J20zgFPi
YdAG5mffTcgtMhymCXBcAaUjuZCcyYIIDdENnaP3wTPo0FEdWozb0/4+SNJ1IhlwyQGUu77mAHgr3Q2j/GqY0RSIbikmgV7NUpf6PA8JAlm2
+lQQj9YjurMI5K9BQZPRGm84E2nSe4zT2NkaKrzObH+mFd5dRlzi00FXaMF06ViYiwKgW27ef1ZCD3Z0yFZ7uaNaGAnflsOUsoaMutSkQPs0
JEAVmnVkjCfpTKylM9D/B0ZjutZspQIDAQAB
"""  # RSAPublicKey of the certificate crt.sh 5534506057, which shares a prime with others


def test_a_prime_that_published_keys_share_is_refused() -> None:
    pem = f"-----BEGIN RSA PUBLIC KEY-----{PUBLISHED}-----END RSA PUBLIC KEY-----\n"
    with pytest.raises(KmsError, match="shares a prime factor"):
        check(load_pem_public_key(pem.encode()))


def sparse() -> int:
    """A polynomial in 2^128 with small coefficients: what one broken generator made of its primes."""
    return sum(secrets.choice([1, 3, 5]) << 128 * power for power in range(8)) + (13 << 128 * 8)


def test_a_modulus_of_a_broken_generator_is_refused() -> None:
    n = 0
    while n.bit_length() % 8 or not n or any(n % p == 0 for p in range(3, 65537, 2)):
        n = sparse() * sparse()
    with pytest.raises(KmsError, match="broken random source"):
        check(rsa_public(n))


@pytest.mark.parametrize("small", [3, 5, 7, 751, 65521])
def test_a_small_factor_is_refused(small: int) -> None:
    n = 0
    while n.bit_length() != 2048:
        n = small * (secrets.randbits(2049 - small.bit_length()) | 1)
    with pytest.raises(KmsError, match="small factor"):
        check(rsa_public(n))


@pytest.mark.parametrize("e", [3, 17, 65535, (1 << 256) + 1])
def test_a_bad_exponent_is_refused(e: int, good: rsa.RSAPublicNumbers) -> None:
    with pytest.raises(KmsError, match="exponent"):
        check(rsa_public(good.n, e))


def test_an_rsa_key_of_1024_bits_is_refused() -> None:
    with pytest.raises(KmsError, match="2048 bits are unsafe"):
        check(rsa.generate_private_key(65537, 1024).public_key())  # noqa: S505  (that is the point)


def test_an_odd_size_is_refused() -> None:
    with pytest.raises(KmsError, match="multiple of 8"):
        check(rsa.generate_private_key(65537, 2050).public_key())


def test_an_enormous_key_is_refused(good: rsa.RSAPublicNumbers) -> None:
    with pytest.raises(KmsError, match="at most 8192"):
        check(rsa_public(good.n << 8192 | 1))


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()])
def test_an_unusual_curve_is_refused(curve: ec.EllipticCurve) -> None:
    with pytest.raises(KmsError, match="unsupported curve"):
        check(ec.generate_private_key(curve).public_key())


@pytest.mark.parametrize("kind", ["dsa", "ed448"])
def test_an_unusual_algorithm_is_refused(kind: str) -> None:
    key: PublicKeyTypes
    key = (
        dsa.generate_private_key(2048).public_key()
        if kind == "dsa"
        else ed448.Ed448PrivateKey.generate().public_key()
    )
    with pytest.raises(KmsError, match="unsupported key type"):
        check(key)


def test_a_point_off_the_curve_does_not_even_parse() -> None:
    der = bytearray(
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    der[-1] ^= 1
    with pytest.raises(ValueError, match=r"(?i)key|point|curve"):
        load_der_public_key(bytes(der))


def test_a_blocked_key_is_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    listed = tmp_path / "blocked"
    listed.write_text(f"# leaked\n\n{digest.upper()}  # found on a web server\n")
    with pytest.raises(KmsError, match="blocklist"):
        goodkey.check(key, Blocklist.load(listed), _no_ca_key)


@pytest.mark.parametrize("line", ["abc", "g" * 64, "a" * 63])
def test_a_broken_blocklist_is_not_taken_for_an_empty_one(tmp_path: Path, line: str) -> None:
    listed = tmp_path / "blocked"
    listed.write_text(line)
    with pytest.raises(ValueError, match="line 1"):
        Blocklist.load(listed)


def test_a_key_of_a_ca_here_is_refused() -> None:
    with pytest.raises(KmsError, match="belongs to a CA"):
        goodkey.check(ec.generate_private_key(ec.SECP256R1()).public_key(), Blocklist(), lambda _: True)


def test_good_keys_pass(good: rsa.RSAPublicNumbers) -> None:
    keys: list[PublicKeyTypes] = [
        good.public_key(),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP521R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
    ]
    for key in keys:
        check(key)
