"""Names in Xet: keyed BLAKE3, one key a purpose, and the tree that names a list of chunks.

Invariants
- Chunk, node, range and file are hashed under different keys, so none of them can pass for another.
- The root depends on the hashes and lengths of the leaves in their order, and on nothing else.

The tree is grown from left to right and keeps one open group a level, so a list of any length costs a few kilobytes.

Source: Xet Protocol Specification 1.1.0, Hashing; draft-denis-xet-03, Hashing Methods and Test Vectors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from blake3 import blake3

from gongqi.kernel.errors import Refused

HASH_BYTES = 32
NO_HASH = bytes(HASH_BYTES)  # the name of the file without chunks; the draft hashes it once more, the clients do not

CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(HASH_BYTES)

GROUP_LEAST, GROUP_MOST = 3, 9  # children of a node, unless the level ends before
_WORDS = struct.Struct("<4Q")
_TEXT = re.compile(r"[0-9a-f]{64}")

Node = tuple[bytes, int]
"""A hash, and the length in bytes of the content below it."""


def text_of(name: bytes) -> str:
    """A hash as Xet writes it: four little-endian words, each as a number of 16 digits; not the hex of the bytes.

    In a shard a SHA-256 is stored the other way about, so that this function gives its usual form.
    """
    return "{:016x}{:016x}{:016x}{:016x}".format(*_WORDS.unpack(name))


def parse_hash(text: str) -> bytes:
    """The inverse of `text_of`. Raises Refused hub.xet-hash-malformed."""
    if not _TEXT.fullmatch(text):
        raise Refused("hub.xet-hash-malformed", text=ascii(text[:80])[1:-1])
    return _WORDS.pack(*(int(text[at : at + 16], 16) for at in range(0, 64, 16)))


def chunk_hash(raw: bytes) -> bytes:
    return blake3(raw, key=CHUNK_KEY).digest()


def range_hash(hashes: bytes) -> bytes:
    """The proof that one knows the chunks of a term: over their hashes, packed 32 bytes each."""
    return blake3(hashes, key=RANGE_KEY).digest()


def node_of(children: Iterable[Node]) -> Node:
    lines, length = [], 0
    for name, size in children:
        lines.append(f"{text_of(name)} : {size}\n")
        length += size
    return blake3("".join(lines).encode(), key=NODE_KEY).digest(), length


class Tree:
    """Add chunks from left to right, then ask for the root, once."""

    def __init__(self) -> None:
        self._open: list[list[Node]] = []  # one unfinished group a level
        self._seen: list[int] = []  # how many nodes a level has had

    def add(self, node: Node, *, level: int = 0) -> None:
        while True:
            if level == len(self._open):
                self._open.append([])
                self._seen.append(0)
            group = self._open[level]
            group.append(node)
            self._seen[level] += 1
            # A node ends its group when its last word is a multiple of four: byte 24 is the lowest of that word.
            if len(group) < GROUP_LEAST or (node[0][24] & 3 and len(group) < GROUP_MOST):
                return
            node = node_of(group)
            group.clear()
            level += 1

    def root(self) -> bytes:
        """The name of the whole list; of one chunk its own hash, of none `NO_HASH`."""
        level = 0
        while level < len(self._open):
            group = self._open[level]
            if self._seen[level] == 1:
                return group[0][0]
            if group:  # a lone last child is hashed again
                self.add(node_of(group), level=level + 1)
            level += 1
        return NO_HASH

    def file_hash(self) -> bytes:
        """The name of a file made of these chunks."""
        root = self.root()
        return root if root == NO_HASH else blake3(root, key=FILE_KEY).digest()
