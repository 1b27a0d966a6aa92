"""A Xet client in one page: cuts, packs and describes files, and keeps what a server would keep. No network.

It writes what the format allows, not only what the official client writes: any cut, any scheme, xorbs of any length.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import lz4.frame

from gongqi.resources.hub.xet.chunks import Chunks
from gongqi.resources.hub.xet.hashes import Node, Tree, chunk_hash, parse_hash, range_hash
from gongqi.resources.hub.xet.shards import BOOKEND, TAG, VERSION, WITH_METADATA, WITH_PROOFS
from gongqi.resources.hub.xet.xorbs import GROUPED_LZ4, LZ4, STORED, Xorb, read_chunks, read_xorb


def cut(content: bytes, *, every: int) -> list[bytes]:
    return [content[at : at + every] for at in range(0, len(content), every)]


def pack(raw: bytes, scheme: int = STORED) -> bytes:
    """One chunk with its header."""
    planes = b"".join(raw[lane::4] for lane in range(4))
    packed = {
        STORED: lambda: raw,
        LZ4: lambda: lz4.frame.compress(raw),
        GROUPED_LZ4: lambda: lz4.frame.compress(planes),
    }
    return framed(packed[scheme](), scheme, len(raw))


def framed(packed: bytes, scheme: int, raw_bytes: int) -> bytes:
    """A chunk header that says so, and the packed bytes after it."""
    return b"\0" + len(packed).to_bytes(3, "little") + bytes([scheme]) + raw_bytes.to_bytes(3, "little") + packed


def name_of(chunks: Sequence[bytes]) -> bytes:
    return Chunks.of((chunk_hash(raw), len(raw)) for raw in chunks).root()


@dataclass(frozen=True, slots=True)
class Piece:
    """Chunks [start, end) of the xorb made of `chunks`."""

    chunks: tuple[bytes, ...]
    start: int
    end: int

    def nodes(self) -> list[Node]:
        return [(chunk_hash(raw), len(raw)) for raw in self.chunks[self.start : self.end]]


def file_records(pieces: Sequence[Piece]) -> bytes:
    """What a shard says of the file made of these pieces, all of it true."""
    tree, digest, terms, proofs = Tree(), hashlib.sha256(), b"", b""
    for piece in pieces:
        nodes = piece.nodes()
        for node in nodes:
            tree.add(node)
        digest.update(b"".join(piece.chunks[piece.start : piece.end]))
        length = sum(size for _, size in nodes)
        terms += struct.pack("<32s4I", name_of(piece.chunks), 0, length, piece.start, piece.end)
        proofs += range_hash(b"".join(name for name, _ in nodes)) + bytes(16)
    flags = WITH_METADATA | (WITH_PROOFS if pieces else 0)
    header = struct.pack("<32sIIQ", tree.file_hash(), flags, len(pieces), 0)
    return header + terms + proofs + parse_hash(digest.hexdigest()) + bytes(16)


def xorb_records(chunks: Sequence[bytes]) -> bytes:
    records, at = b"", 0
    for raw in chunks:
        records += struct.pack("<32s4I", chunk_hash(raw), at, len(raw), 0, 0)
        at += len(raw)
    return struct.pack("<32s4I", name_of(chunks), 0, len(chunks), at, 0) + records


def shard_of(files: Iterable[bytes], xorbs: Iterable[bytes]) -> bytes:
    """A shard from the records of its two sections."""
    header = struct.pack("<32sQQ", TAG, VERSION, 0)
    return b"".join([header, *files, BOOKEND, *xorbs, BOOKEND])


@dataclass
class Held:
    """Xorbs as a server holds them: read on receipt, and then as they came."""

    xorbs: dict[bytes, tuple[Xorb, bytearray]] = field(default_factory=dict)

    def receive(self, claimed: bytes, content: bytes) -> Xorb:
        xorb = read_xorb(io.BytesIO(content), claimed=claimed)
        self.xorbs[claimed] = xorb, bytearray(content)
        return xorb

    def chunks(self, xorb: bytes) -> Chunks | None:
        return self.xorbs[xorb][0].chunks if xorb in self.xorbs else None

    def read(self, xorb: bytes, start: int, end: int) -> Iterator[bytes]:
        known, content = self.xorbs[xorb]
        return read_chunks(io.BytesIO(content), known, start, end)
