"""RFC 6962 Merkle trees: growth at a cost that does not depend on the size, and proofs.

`CompactRange` keeps only the roots of the perfect subtrees ("peaks"), at most one per bit of the size, so a
leaf costs one or two hashes however long the log is. Proofs are made from the whole list of leaf hashes,
offline, and checked against roots alone. Checks raise; nothing returns a truth value to ignore.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from kms.errors import integrity

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data), RFC 6962 section 2.1."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), RFC 6962 section 2.1."""
    return _sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The tree over the first `size` leaves, as far as growing it and naming its root need."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if len(self.peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in self.peaks):
            raise integrity(f"{len(self.peaks)} subtree hashes cannot stand for {size} leaves")

    def push(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        size = self.size
        peaks = self.peaks
        while size & 1:
            leaf = _sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Merkle Tree Hash of the leaves so far."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def copy(self) -> CompactRange:
        """An independent tree with the same leaves."""
        return CompactRange(self.size, self.peaks)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Merkle Tree Hash of a list of leaf hashes."""
    tree = CompactRange()
    for leaf in leaves:
        tree.push(leaf)
    return tree.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Audit path of leaf `index` in the tree of all `leaves` (RFC 6962 section 2.1.1)."""
    if not 0 <= index < len(leaves):
        raise ValueError("the leaf is not in the tree")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(root_of(leaves[middle:high]))
            high = middle
        else:
            path.append(root_of(leaves[low:middle]))
            low = middle
    return path[::-1]


def consistency_proof(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """Proof that the first `old` leaves are a prefix of all `leaves` (RFC 6962 section 2.1.2)."""
    if not 0 < old <= len(leaves):
        raise ValueError("the older tree must hold 1 to as many leaves as the newer")
    path: list[bytes] = []
    low, high, whole = 0, len(leaves), True
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(root_of(leaves[middle:high]))
            high = middle
        else:
            path.append(root_of(leaves[low:middle]))
            low, whole = middle, False
    if not whole:
        path.append(root_of(leaves[low:high]))
    return path[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise KmsError(INTEGRITY) unless `proof` leads from `leaf` at `index` to `root` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        raise integrity("the index lies outside the tree")
    node, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise integrity("the inclusion proof is too long")
        if node & 1 or node == last:
            value = node_hash(sibling, value)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        node, last = node >> 1, last >> 1
    if last or value != root:
        raise integrity("the inclusion proof does not lead to the root")


def check_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise KmsError(INTEGRITY) unless the tree `old` is a prefix of the tree `new` (RFC 9162 2.1.4.2)."""
    if not 0 < old <= new:
        raise integrity("sizes out of order")
    if old == new:
        if proof or old_root != new_root:
            raise integrity("two roots for one size")
        return
    if not proof:
        raise integrity("the consistency proof is empty")
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    # The subtree that ends both trees alike is left out of the walk: drop the trailing ones of old - 1.
    shift = (~(old - 1) & old).bit_length() - 1
    node, last = (old - 1) >> shift, (new - 1) >> shift
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise integrity("the consistency proof is too long")
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    if last or first != old_root or second != new_root:
        raise integrity("the consistency proof does not connect the two roots")


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)
