"""The Merkle tree of the evidence log: hash, grow, prove, check.

Idea: the log is a list of entries under one 32-byte root. A short proof shows that an entry is in the list
(inclusion), or that a longer list begins with a shorter one (consistency), to somebody who knows only roots and
sizes.

Everything is built from *perfect* subtrees, of 2**level leaves, named (level, index): leaves [index << level,
(index + 1) << level). A perfect subtree never changes once it is full, so its hash can be stored for good; whoever
can read such hashes (a `HashReader`) can prove anything at a cost of O(log size), whatever the store.

Invariants
- A leaf and a node are hashed under different first bytes, so neither can pass for the other.
- The root of `size` leaves depends on the leaves alone, not on how they were batched.
- A check accepts exactly the proof the tree makes: no longer, no shorter, no other.

Rows of hashes are packed bytes, 32 a hash: siblings lie side by side, so a parent is one slice and one hash.

Source: RFC 6962 section 2.1, RFC 9162 section 2.1 (the same tree; the algorithms that check are 2.1.3.2 and 2.1.4.2).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from gongqi.kernel.errors import Refused

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
MAX_TREE_SIZE = 2**63 - 1  # what a signed 64-bit column holds

HashReader = Callable[[int, int], bytes]
"""(level, index) -> hash of that perfect subtree."""


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def parents(row: bytes) -> bytes:
    """The row one level up; `row` packs an even number of sibling hashes."""
    return b"".join([sha256(b"\x01" + row[at : at + 64]).digest() for at in range(0, len(row), 64)])


def perfect_root(row: bytes) -> bytes:
    """The hash over a row of 1, 2, 4, 8... packed hashes."""
    while len(row) > HASH_BYTES:
        row = parents(row)
    return row


def perfect_subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest perfect subtrees that cover leaves [start, end), left to right."""
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


def join_peaks(peaks: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees of falling size; each joins everything to its right."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that a growing tree must remember: its size and one hash per set bit of it.

    `peaks` are the perfect subtrees of the tree, left to right, therefore large to small.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        assert 0 <= self.size <= MAX_TREE_SIZE
        assert len(self.peaks) == self.size.bit_count()

    @classmethod
    def of(cls, size: int, read: HashReader) -> Self:
        """The frontier of a stored tree, in at most 63 reads."""
        return cls(size, tuple(read(level, index) for level, index in perfect_subtrees(0, size)))

    def append(self, leaf_hashes: Iterable[bytes]) -> Self:
        """The frontier after these leaves, in one pass per level."""
        row = b"".join(leaf_hashes)
        size = self.size + len(row) // HASH_BYTES
        waiting, peaks, level = list(self.peaks), [], 0
        while row or waiting:
            if self.size >> level & 1:
                row = waiting.pop() + row
            if size >> level & 1:
                row, peak = row[:-HASH_BYTES], row[-HASH_BYTES:]
                peaks.append(peak)
            row = parents(row)
            level += 1
        return type(self)(size, tuple(reversed(peaks)))

    @property
    def root(self) -> bytes:
        return join_peaks(self.peaks)


def inclusion_proof(index: int, size: int, read: HashReader) -> tuple[bytes, ...]:
    """The hashes that lead from leaf `index` to the root of the first `size` leaves, leaf first.

    Raises Refused when the tree of that size has no such leaf.
    """
    if not 0 <= index < size:
        raise Refused("evidence.index-out-of-range", index=index, size=size)
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _left_width(end - start)
        if index < middle:
            path.append(_root_of(middle, end, read))
            end = middle
        else:
            path.append(_root_of(start, middle, read))
            start = middle
    return tuple(reversed(path))


def consistency_proof(old_size: int, new_size: int, read: HashReader) -> tuple[bytes, ...]:
    """The hashes from which both roots follow; empty for equal sizes and for the empty tree, where nothing is to prove.

    Raises Refused when the old tree is larger than the new one.
    """
    if not 0 <= old_size <= new_size:
        raise Refused("evidence.sizes-out-of-order", old_size=old_size, new_size=new_size)
    if old_size == 0:
        return ()
    path, start, end = [], 0, new_size
    while end != old_size:
        middle = start + _left_width(end - start)
        if old_size <= middle:
            path.append(_root_of(middle, end, read))
            end = middle
        else:
            path.append(_root_of(start, middle, read))
            start = middle
    if start:  # at start 0 the subtree is the whole old tree, whose root the checker already has
        path.append(_root_of(start, end, read))
    return tuple(reversed(path))


def _left_width(width: int) -> int:
    """The largest power of two smaller than `width`: RFC 6962 puts that many leaves on the left."""
    return 1 << (width - 1).bit_length() - 1


def _root_of(start: int, end: int, read: HashReader) -> bytes:
    return join_peaks([read(level, index) for level, index in perfect_subtrees(start, end)])


def verify_inclusion(*, index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Return if `proof` shows leaf hash `leaf` at `index` under `root`; raise Refused if not (RFC 9162, 2.1.3.2)."""
    if climb(index=index, size=size, leaf=leaf, proof=proof)[-1] != root:
        raise Refused("evidence.inclusion-false", index=index, size=size)


def climb(*, index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> list[bytes]:
    """The hashes reached on the way up, from the leaf's own to the root that `proof` leads to.

    Raises Refused for a proof that is longer or shorter than the way.
    """
    false = Refused("evidence.inclusion-false", index=index, size=size)
    if not 0 <= index < size or not _are_hashes(leaf, *proof):
        raise false
    node, last, reached = index, size - 1, [leaf]
    for sibling in proof:
        if last == 0:
            raise false
        if node & 1 or node == last:
            reached.append(node_hash(sibling, reached[-1]))
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            reached.append(node_hash(reached[-1], sibling))
        node, last = node >> 1, last >> 1
    if last != 0:
        raise false
    return reached


def verify_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Return if `proof` shows that the new tree begins with the old one; raise Refused if not (RFC 9162, 2.1.4.2).

    The empty tree begins every tree: then the proof must be empty and `old_root` the root of nothing.
    """
    false = Refused("evidence.consistency-false", old_size=old_size, new_size=new_size)
    if not 0 <= old_size <= new_size or not _are_hashes(old_root, new_root, *proof):
        raise false
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise false
    if old_size == new_size and old_root != new_root:
        raise false
    if old_size in (0, new_size):
        if proof:
            raise false
        return
    # A perfect old tree is itself the first node of the path, and the proof leaves it out.
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        raise false
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_reached = new_reached = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise false
        if node & 1 or node == last:
            old_reached, new_reached = node_hash(sibling, old_reached), node_hash(sibling, new_reached)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new_reached = node_hash(new_reached, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or old_reached != old_root or new_reached != new_root:
        raise false


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
