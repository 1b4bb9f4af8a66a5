"""Shamir's secret sharing over GF(2^8) (Shamir 1979), in the share format of the Vault API.

A share is the value of one random polynomial per secret byte at x, followed by x itself: 33 bytes for
a 32-byte secret. The field is that of AES (x^8+x^4+x^3+x+1). Multiplication runs the same steps for
all operands instead of using tables (table look-ups leaked through the cache in CVE-2023-25000);
CPython gives no stronger promise about timing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from kms.errors import invalid

MAX_SHARES = 255


def _mul(a: int, b: int) -> int:
    product = 0
    for _ in range(8):
        product ^= -(b & 1) & a
        a = (a << 1) ^ (-(a >> 7) & 0x11B)
        b >>= 1
    return product


def _inverse(a: int) -> int:
    # a^254 by a fixed chain of squarings: the inverse in a field of 256 elements.
    result = 1
    for bit in (1, 1, 1, 1, 1, 1, 1, 0):
        result = _mul(result, result)
        result = _mul(result, a if bit else 1)
    return result


def split(secret: bytes, shares: int, threshold: int) -> list[bytes]:
    """Split `secret` into `shares` parts of which any `threshold` restore it.

    Raises:
        KmsError(INVALID): threshold < 1 or > shares, shares > 255, or threshold 1 with several shares.
    """
    if not 1 <= threshold <= shares <= MAX_SHARES:
        raise invalid(f"invalid seal configuration: need 1 <= threshold <= shares <= {MAX_SHARES}")
    if threshold == 1 and shares > 1:
        raise invalid("invalid seal configuration: threshold must be greater than one for multiple shares")
    points = secrets.SystemRandom().sample(range(1, 256), shares)
    polynomials = [bytes([byte, *secrets.token_bytes(threshold - 1)]) for byte in secret]
    return [bytes(_evaluate(p, x) for p in polynomials) + bytes([x]) for x in points]


def _evaluate(polynomial: bytes, x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = _mul(value, x) ^ coefficient
    return value


def combine(shares: Sequence[bytes]) -> bytes:
    """Restore the secret from enough shares.

    Wrong or too few shares give wrong bytes, not an error: the caller must verify the result.

    Raises:
        KmsError(INVALID): the same share twice, or shares that cannot be of one splitting.
    """
    if not shares or len({len(share) for share in shares}) != 1 or len(shares[0]) < 2:
        raise invalid("the shares do not belong together: give shares of one init, unchanged")
    if len(set(shares)) != len(shares):
        raise invalid("the same share was given twice: each custodian gives their own")
    xs = [share[-1] for share in shares]
    if len(set(xs)) != len(xs) or 0 in xs:  # two shares of one splitting never have the same place
        raise invalid("the shares do not belong together: give shares of one init, unchanged")
    weights = [_weight(x, xs) for x in xs]
    length = len(shares[0]) - 1
    return bytes(
        _sum(_mul(share[position], weight) for share, weight in zip(shares, weights, strict=True))
        for position in range(length)
    )


def _weight(x: int, xs: Sequence[int]) -> int:
    # The Lagrange basis polynomial of x at 0.
    weight = 1
    for other in xs:
        if other != x:
            weight = _mul(weight, _mul(other, _inverse(other ^ x)))
    return weight


def _sum(values: Iterable[int]) -> int:
    total = 0
    for value in values:
        total ^= value
    return total
