"""A shard: which chunks of which xorbs make which files, in records of 48 bytes.

Reading checks the form of every record and adds up what the files claim to be; whether the claims are true is found by
`rebuild`, which knows the xorbs. Terms are read from the shard each time they are asked for, since a shard may hold
several hundred thousand.

    shard     header, file*, bookend, xorb*, bookend
    header    tag 32, version u64 = 2, footer size u64
    file      file hash 32, flags u32, n u32, unused 8; n terms; n proofs; 1 metadata      (flags say which)
    term      xorb hash 32, flags u32 = 0, raw bytes u32, first chunk u32, end chunk u32
    proof     range hash 32, unused 16
    metadata  SHA-256 32, unused 16
    xorb      xorb hash 32, flags u32 = 0, n u32, raw bytes u32, bytes on disk u32; n chunks
    chunk     chunk hash 32, raw offset u32, raw bytes u32, flags u32, unused 4
    bookend   32 x 0xFF, 16 x 0

Unused fields and the two sizes that clients fill as they like (footer, bytes on disk) are not read; an unknown flag is
refused, because it may change what the rest means. A footer is not for uploads and is refused as trailing bytes.

Source: Xet Protocol Specification 1.1.0, Shard; draft-denis-xet-03, Shard Format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gongqi.kernel.errors import Refused
from gongqi.resources.hub.rules import FILE_COUNT_LIMIT
from gongqi.resources.hub.xet.chunks import Chunks
from gongqi.resources.hub.xet.hashes import NO_HASH, Node, text_of
from gongqi.resources.hub.xet.xorbs import CHUNK_COUNT_LIMIT

SHARD_LIMIT_BYTES = 64 << 20
SHARD_CHUNK_LIMIT = 4 << 20  # chunks that all files together name: 256 GiB at the usual length; seconds of hashing
SHARD_XORB_LIMIT = 16_384  # xorbs that it describes; with 1,000 chunks each, 1,400 fill a shard

TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
VERSION = 2
RECORD_BYTES = 48
BOOKEND = b"\xff" * 32 + bytes(16)
WITH_PROOFS, WITH_METADATA = 1 << 31, 1 << 30
DEDUPLICABLE = 1 << 31  # a chunk that others may be told of; we tell nobody

_HEADER = struct.Struct("<32sQQ")
_RECORD = struct.Struct("<32s4I")


@dataclass(frozen=True, slots=True)
class Term:
    """Chunks [start, end) of a xorb, `raw_bytes` long; `proof` is the hash over their hashes."""

    xorb: bytes
    start: int
    end: int
    raw_bytes: int
    proof: bytes


@dataclass(frozen=True, slots=True)
class File:
    """What a shard claims of one file. `sha256` is in hex, or None when the uploader gave none."""

    name: bytes
    sha256: str | None
    raw_bytes: int
    records: memoryview

    def terms(self) -> Iterator[Term]:
        half = len(self.records) // 2
        proofs = _RECORD.iter_unpack(self.records[half:])
        for xorb, _, raw_bytes, start, end in _RECORD.iter_unpack(self.records[:half]):
            yield Term(xorb, start, end, raw_bytes, next(proofs)[0])


@dataclass(frozen=True, slots=True)
class Shard:
    """What a shard claims. `xorbs` are those it describes, by hash; a file may need others, sent earlier."""

    files: tuple[File, ...]
    xorbs: Mapping[bytes, Chunks]


class _Records:
    """Records one after another, never past the end."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, _HEADER.size

    def take(self, count: int) -> memoryview:
        start, self._at = self._at, self._at + count * RECORD_BYTES
        if self._at > len(self._content):
            raise _malformed("it ends before its records do")
        return self._content[start : self._at]

    def headers(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        """The headers of a section, up to its bookend; whoever iterates takes what follows each."""
        while (record := self.take(1)) != BOOKEND:
            yield _RECORD.unpack(record)

    def end(self) -> None:
        if self._at != len(self._content):
            raise _malformed("bytes follow its last section")


def parse_shard(content: bytes) -> Shard:
    """Raises Refused hub.xet-shard-malformed, hub.xet-shard-too-large."""
    if len(content) > SHARD_LIMIT_BYTES:
        raise too_large()
    if len(content) < _HEADER.size:
        raise _malformed("it is shorter than a header")
    tag, version, _ = _HEADER.unpack_from(content)
    if tag != TAG or version != VERSION:
        raise _malformed("it does not begin with the tag and version of a shard")
    records = _Records(memoryview(content))
    files = tuple(_files(records))
    xorbs = dict(_xorbs(records))
    records.end()
    return Shard(files, xorbs)


def _files(records: _Records) -> Iterator[File]:
    files = chunks = 0
    for name, flags, count, _, _ in records.headers():
        if flags & ~(WITH_PROOFS | WITH_METADATA):
            raise _malformed(f"a file has flags {flags:#x}")
        if (count == 0) != (name == NO_HASH):
            raise _malformed("a file without terms is named like one with terms, or the other way round")
        if count and not flags & WITH_PROOFS:
            raise _malformed("a file has terms without range hashes")
        terms = records.take(count * 2)  # a term and its proof; of no terms there are no proofs, whatever the flag
        raw_bytes, named = _sum(terms[: len(terms) // 2])
        sha256 = text_of(bytes(records.take(1)[:32])) if flags & WITH_METADATA else None
        files, chunks = files + 1, chunks + named
        if files > FILE_COUNT_LIMIT or chunks > SHARD_CHUNK_LIMIT:
            raise too_large()
        yield File(name, sha256, raw_bytes, terms)


def _sum(terms: memoryview) -> tuple[int, int]:
    """How many bytes and how many chunks the terms claim to be."""
    total = chunks = 0
    for _, flags, raw_bytes, start, end in _RECORD.iter_unpack(terms):
        if flags:
            raise _malformed(f"a term has flags {flags:#x}")
        if not start < end <= CHUNK_COUNT_LIMIT:
            raise _malformed(f"a term names chunks {start} to {end}")
        total += raw_bytes
        chunks += end - start
    return total, chunks


def _xorbs(records: _Records) -> Iterator[tuple[bytes, Chunks]]:
    for index, (name, flags, count, raw_bytes, _) in enumerate(records.headers()):
        if index == SHARD_XORB_LIMIT:
            raise too_large()
        if flags:
            raise _malformed(f"a xorb has flags {flags:#x}")
        if not 0 < count <= CHUNK_COUNT_LIMIT:
            raise _malformed(f"a xorb has {count} chunks")
        chunks = Chunks.of(_nodes(records.take(count)))
        if chunks.raw_bytes(0, count) != raw_bytes:
            raise _malformed("the chunks of a xorb do not add up to its length")
        yield name, chunks


def _nodes(entries: memoryview) -> Iterator[Node]:
    at = 0
    for name, offset, length, flags, _ in _RECORD.iter_unpack(entries):
        if flags & ~DEDUPLICABLE:
            raise _malformed(f"a chunk has flags {flags:#x}")
        if offset != at:
            raise _malformed("the chunks of a xorb overlap or leave a hole")
        at += length
        yield name, length


def _malformed(flaw: str) -> Refused:
    return Refused("hub.xet-shard-malformed", flaw=flaw)


def too_large() -> Refused:
    return Refused(
        "hub.xet-shard-too-large",
        limit_bytes=SHARD_LIMIT_BYTES, limit_files=FILE_COUNT_LIMIT,
        limit_xorbs=SHARD_XORB_LIMIT, limit_chunks=SHARD_CHUNK_LIMIT,
    )  # fmt: skip
