"""Secret sharing: any threshold of shares restores, fewer do not, bad input is refused."""

from __future__ import annotations

import itertools
import secrets

import pytest

from kms.errors import ErrorKind, KmsError
from kms.system.shamir import combine, split


@pytest.mark.parametrize(
    ("shares", "threshold"), [(0, 0), (1, 2), (256, 3), (3, 0), (3, 1), (-1, -1)], ids=str
)
def test_impossible_numbers_are_refused(shares: int, threshold: int) -> None:
    with pytest.raises(KmsError) as error:
        split(b"s" * 32, shares, threshold)
    assert error.value.kind is ErrorKind.INVALID


_BAD = {
    "none": [],
    "no value": [b"\x01", b"\x02"],
    "different lengths": [b"ab\x01", b"abc\x02"],
    "the same twice": [b"ab\x01", b"ab\x01"],
    "x = 0 would be the secret itself": [b"ab\x00", b"ab\x01"],
}


@pytest.mark.parametrize("shares", _BAD.values(), ids=_BAD.keys())
def test_shares_that_do_not_belong_together_are_refused(shares: list[bytes]) -> None:
    with pytest.raises(KmsError) as error:
        combine(shares)
    assert error.value.kind is ErrorKind.INVALID


@pytest.mark.parametrize(("shares", "threshold"), [(1, 1), (2, 2), (5, 3), (255, 5)])
def test_any_threshold_of_shares_restores_and_fewer_do_not(shares: int, threshold: int) -> None:
    secret = secrets.token_bytes(32)
    parts = split(secret, shares, threshold)
    assert {len(part) for part in parts} == {33}
    for chosen in itertools.islice(itertools.combinations(parts, threshold), 10):
        assert combine(chosen) == secret
    if threshold > 1:
        assert combine(parts[: threshold - 1]) != secret


def test_the_share_format_is_that_of_the_vault_api() -> None:
    # Two points of f(x) = 0x2a + 0x01 x over GF(2^8): f(1) = 0x2b, f(2) = 0x28.
    assert combine([b"\x2b\x01", b"\x28\x02"]) == b"\x2a"
