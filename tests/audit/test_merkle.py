"""RFC 6962 trees against published vectors and against a slow implementation written from the RFC's text."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.audit.merkle import (
    CompactRange,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
)
from kms.errors import KmsError

# Leaves and roots of certificate-transparency-go's and transparency-dev/merkle's test data.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def slow_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + slow_root(leaves[:split]) + slow_root(leaves[split:])).digest()


def slow_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*slow_path(index, leaves[:split]), slow_root(leaves[split:])]
    return [*slow_path(index - split, leaves[split:]), slow_root(leaves[:split])]


def slow_proof(old: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF of section 2.1.2, word for word."""
    if old == len(leaves):
        return [] if whole else [slow_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*slow_proof(old, leaves[:split], whole=whole), slow_root(leaves[split:])]
    return [*slow_proof(old - split, leaves[split:], whole=False), slow_root(leaves[:split])]


def some_leaves(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


@pytest.mark.parametrize("count", range(len(ROOTS)))
def test_published_roots(count: int) -> None:
    leaves = [leaf_hash(bytes.fromhex(data)) for data in LEAVES[:count]]
    assert root_of(leaves).hex() == ROOTS[count]


@given(st.integers(0, 200))
def test_compact_range_is_the_slow_tree(count: int) -> None:
    tree = CompactRange()
    for leaf in some_leaves(count):
        tree.push(leaf)
    assert tree.root() == slow_root(some_leaves(count))
    assert CompactRange(tree.size, tree.peaks).root() == tree.root()
    assert len(tree.peaks) <= 8


def test_growth_does_not_cost_more_as_the_log_grows() -> None:
    tree = CompactRange((1 << 40) - 1, [b"\0" * 32] * 40)
    tree.push(b"\1" * 32)
    assert tree.size == 1 << 40
    assert len(tree.peaks) == 1


def test_a_compact_range_needs_its_peaks() -> None:
    with pytest.raises(KmsError):
        CompactRange(3, [b"\0" * 32])
    with pytest.raises(KmsError):
        CompactRange(1, [b"short"])


@given(st.integers(1, 130).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))))
def test_inclusion(case: tuple[int, int]) -> None:
    index, size = case
    leaves = some_leaves(size)
    proof = inclusion_proof(leaves, index)
    assert proof == slow_path(index, leaves)
    check_inclusion(leaves[index], index, size, proof, slow_root(leaves))


@given(st.integers(1, 130).flatmap(lambda size: st.tuples(st.integers(1, size), st.just(size))))
def test_consistency(case: tuple[int, int]) -> None:
    old, size = case
    leaves = some_leaves(size)
    proof = consistency_proof(leaves, old)
    assert proof == slow_proof(old, leaves)
    check_consistency(old, size, slow_root(leaves[:old]), slow_root(leaves), proof)


def test_a_proof_in_a_log_of_a_million_is_below_2_kb() -> None:
    leaves = [index.to_bytes(32, "big") for index in range(1 << 16)]
    assert len(inclusion_proof(leaves, 12345)) * 32 * 20 / 16 <= 2048


@given(
    st.integers(2, 40).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))),
    st.integers(0, 5),
)
def test_bad_inclusion_proofs_are_refused(case: tuple[int, int], way: int) -> None:
    index, size = case
    leaves = some_leaves(size)
    proof, leaf, root = inclusion_proof(leaves, index), leaves[index], slow_root(leaves)
    changed = [bytes(32), *proof[1:]]
    bad = [
        (leaf, index, size, changed, root),
        (leaf, index, size, proof[:-1], root),
        (leaf, index, size, [*proof, bytes(32)], root),
        (bytes(32), index, size, proof, root),
        (leaf, (index + 1) % size, size, proof, root),
        (leaf, size, size, proof, root),
    ]
    with pytest.raises(KmsError):
        check_inclusion(*bad[way])


@given(
    st.integers(3, 40).flatmap(lambda size: st.tuples(st.integers(1, size - 1), st.just(size))),
    st.integers(0, 6),
)
def test_bad_consistency_proofs_are_refused(case: tuple[int, int], way: int) -> None:
    old, size = case
    leaves = some_leaves(size)
    proof, before, after = consistency_proof(leaves, old), slow_root(leaves[:old]), slow_root(leaves)
    bad = [
        (old, size, before, after, [bytes(32), *proof[1:]]),
        (old, size, before, after, proof[:-1]),
        (old, size, before, after, [*proof, bytes(32)]),
        (old, size, bytes(32), after, proof),
        (old, size, before, bytes(32), proof),
        (size, old, before, after, proof),
        (size, size, before, after, []),
    ]
    with pytest.raises(KmsError):
        check_consistency(*bad[way])


def test_proofs_of_what_is_not_there_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="not in the tree"):
        inclusion_proof([], 0)
    with pytest.raises(ValueError, match="older"):
        consistency_proof(some_leaves(3), 4)
