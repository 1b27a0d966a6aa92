"""The list of chunks that a xorb's name stands for: hashes and lengths, packed, because a file may have a million.

Source: Xet Protocol Specification 1.1.0, Xorb Hashes and Term Verification Hashes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from gongqi.resources.hub.xet.hashes import HASH_BYTES, Node, Tree, range_hash


@dataclass(frozen=True, slots=True)
class Chunks:
    """`hashes`: 32 bytes a chunk. `ends`: for each chunk, how many raw bytes there are up to its end."""

    hashes: bytes
    ends: array[int]

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Self:
        hashes, ends, end = bytearray(), array("Q"), 0
        for name, length in nodes:
            hashes += name
            end += length
            ends.append(end)
        return cls(bytes(hashes), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def nodes(self, start: int, end: int) -> Iterator[Node]:
        """Hash and raw length of chunks [start, end)."""
        before = self.ends[start - 1] if start else 0
        for index in range(start, end):
            yield self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES], self.ends[index] - before
            before = self.ends[index]

    def raw_bytes(self, start: int, end: int) -> int:
        """The length of chunks [start, end), where start < end."""
        return self.ends[end - 1] - (self.ends[start - 1] if start else 0)

    def range_hash(self, start: int, end: int) -> bytes:
        return range_hash(self.hashes[start * HASH_BYTES : end * HASH_BYTES])

    def root(self) -> bytes:
        """The xorb's name."""
        tree = Tree()
        for node in self.nodes(0, len(self)):
            tree.add(node)
        return tree.root()
