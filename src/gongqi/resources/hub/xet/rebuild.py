"""From a shard and the xorbs it names to the bytes of a file; either all of its claims are true, or it is refused.

Two passes. `check` compares every claim that follows from the lists of chunks (ranges, lengths, range hashes, the
file's name) and reads no content, so a lying shard costs no reading. `rebuild` then hands out the content chunk by
chunk, each hashed again on its way: what the store gives back is no more trusted than what came in.

Invariants
- The bytes that `rebuild` has yielded are, at every moment, the beginning of the one file that the shard names.
- A claim that is false is the uploader's fault (Refused); a chunk that is no longer what it was is ours (Broken).

Source: Xet Protocol Specification 1.1.0, File Reconstruction and Upload Protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from gongqi.kernel.errors import Broken, Refused
from gongqi.resources.hub.xet.chunks import Chunks
from gongqi.resources.hub.xet.hashes import Tree, chunk_hash, text_of
from gongqi.resources.hub.xet.shards import File, Shard, Term


class Xorbs(Protocol):
    """Xorbs that were read and named on receipt, wherever their bytes are now."""

    def chunks(self, xorb: bytes) -> Chunks | None:
        """The list of its chunks; None when this xorb was never received."""
        ...

    def read(self, xorb: bytes, start: int, end: int) -> Iterator[bytes]:
        """The raw bytes of chunks [start, end), one at a time."""
        ...


def check(shard: Shard, xorbs: Xorbs) -> None:
    """Raises Refused hub.xet-xorb-unknown, hub.xet-xorb-differs, hub.xet-file-differs."""
    for name, described in shard.xorbs.items():
        if _known(xorbs, name) != described:
            raise Refused("hub.xet-xorb-differs", xorb=text_of(name), got=text_of(described.root()))
    for file in shard.files:
        _check_file(file, xorbs)


def _check_file(file: File, xorbs: Xorbs) -> None:
    tree = Tree()
    for term in file.terms():
        chunks = _known(xorbs, term.xorb)
        if term.end > len(chunks):
            raise _differs(file, "term")
        if term.raw_bytes != chunks.raw_bytes(term.start, term.end):
            raise _differs(file, "length")
        if term.proof != chunks.range_hash(term.start, term.end):
            raise _differs(file, "range hash")
        for node in chunks.nodes(term.start, term.end):
            tree.add(node)
    if tree.file_hash() != file.name:
        raise _differs(file, "file hash")


def rebuild(file: File, xorbs: Xorbs, *, after: int = 0) -> Iterator[bytes]:
    """The bytes of a file that `check` let pass, chunk by chunk; those of its first `after` terms are left out.

    Throw away what was yielded when this raises Broken hub.xet-chunk-damaged. The SHA-256 that the shard claims is for
    whoever keeps the bytes to compare: a store of blobs computes it anyway.
    """
    for term in islice(file.terms(), after, None):
        yield from _intact(term, xorbs)


def whole(xorb: bytes, xorbs: Xorbs) -> Iterator[bytes]:
    """All chunks of a xorb that was received. Raises Broken hub.xet-chunk-damaged."""
    return _intact(Term(xorb, 0, len(_known(xorbs, xorb)), 0, b""), xorbs)


def _intact(term: Term, xorbs: Xorbs) -> Iterator[bytes]:
    """The chunks of one term, each still what it was when it came in."""
    pieces = xorbs.read(term.xorb, term.start, term.end)
    for name, _ in _known(xorbs, term.xorb).nodes(term.start, term.end):
        try:
            raw = next(pieces, b"")
        except Refused as error:  # it was well-formed when it came in
            raise _damaged(term) from error
        if chunk_hash(raw) != name:
            raise _damaged(term)
        yield raw


def _known(xorbs: Xorbs, name: bytes) -> Chunks:
    chunks = xorbs.chunks(name)
    if chunks is None:
        raise Refused("hub.xet-xorb-unknown", xorb=text_of(name))
    return chunks


def _damaged(term: Term) -> Broken:
    return Broken("hub.xet-chunk-damaged", xorb=text_of(term.xorb))


def _differs(file: File, claim: str) -> Refused:
    return Refused("hub.xet-file-differs", file=text_of(file.name), claim=claim)
