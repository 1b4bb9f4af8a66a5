"""The public key of an EC private key that the token took in, from signatures that it makes.

An unwrapped EC private key shows no public point, and the API's import sends none. An ECDSA signature leaves two
public keys (SEC 1 4.1.6), or four where r could have been reduced; a second signature leaves one. All numbers here
are public, so nothing needs constant time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec

from kms.hsm.mechanisms import SPECS
from kms.hsm.model import KeySpec
from kms.hsm.public import curve_of

Point = tuple[int, int] | None  # None is the point at infinity

_PRIMES = {
    KeySpec.EC_P256: 2**256 - 2**224 + 2**192 + 2**96 - 1,
    KeySpec.EC_P384: 2**384 - 2**128 - 2**96 + 2**32 - 1,
    KeySpec.EC_P521: 2**521 - 1,
}


@dataclass(frozen=True)
class Curve:
    """y^2 = x^3 - 3x + b over the integers modulo `prime`, with a point of prime `order`."""

    prime: int
    order: int
    b: int
    base: tuple[int, int]

    def lift(self, x: int) -> int | None:
        """A y for this x, if there is one. All our primes are 3 modulo 4."""
        square = (pow(x, 3, self.prime) - 3 * x + self.b) % self.prime
        y = pow(square, (self.prime + 1) // 4, self.prime)
        return y if y * y % self.prime == square else None

    def add(self, one: Point, two: Point) -> Point:
        """The sum of two points."""
        if one is None or two is None:
            return one or two
        p = self.prime
        if one[0] == two[0]:
            if (one[1] + two[1]) % p == 0:
                return None
            slope = 3 * (one[0] * one[0] - 1) * pow(2 * one[1], -1, p)
        else:
            slope = (two[1] - one[1]) * pow(two[0] - one[0], -1, p)
        x = (slope * slope - one[0] - two[0]) % p
        return x, (slope * (one[0] - x) - one[1]) % p

    def times(self, factor: int, point: Point) -> Point:
        """A multiple of a point."""
        total: Point = None
        for bit in f"{factor % self.order:b}":
            total = self.add(total, total)
            if bit == "1":
                total = self.add(total, point)
        return total


@cache
def curve(spec: KeySpec) -> Curve:
    """The numbers of a curve; the base point is the public key of the private key 1."""
    named = curve_of(spec)
    base = ec.derive_private_key(1, named).public_key().public_numbers()
    prime = _PRIMES[spec]
    b = (base.y * base.y - pow(base.x, 3, prime) + 3 * base.x) % prime
    return Curve(prime, named.group_order, b, (base.x, base.y))


def candidates(spec: KeySpec, digest: bytes, signature: bytes) -> set[tuple[int, int]]:
    """The public keys under which a signature (r || s) of a digest as long as the order at most is good."""
    c, half = curve(spec), SPECS[spec].coordinate
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    if not (0 < r < c.order and 0 < s < c.order):
        return set()
    inverse, z = pow(r, -1, c.order), int.from_bytes(digest, "big")
    found = set()
    for x in range(r, c.prime, c.order):
        y = c.lift(x)
        if y is None:
            continue
        minus = c.times(-z * inverse, c.base)
        for root in (y, c.prime - y):
            point = c.add(c.times(s * inverse, (x, root)), minus)
            if point is not None:
                found.add(point)
    return found


def public_key(spec: KeySpec, signed: list[tuple[bytes, bytes]]) -> ec.EllipticCurvePublicKey | None:
    """The one public key of several (digest, signature); None if they do not agree on one."""
    left = set.intersection(*(candidates(spec, digest, signature) for digest, signature in signed))
    if len(left) != 1:
        return None
    x, y = left.pop()
    return ec.EllipticCurvePublicNumbers(x, y, curve_of(spec)).public_key()
