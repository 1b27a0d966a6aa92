"""A xorb: up to 8,192 chunks, each with an 8-byte header, packed by one of three schemes; nothing before or after.

Reading goes chunk by chunk and holds one chunk. The declared raw length is compared with the limit before anything is
unpacked, and the unpacker is given no room for more than that, so that a small xorb cannot become a large memory.

    version u8 = 0 | packed length u24 | scheme u8 | raw length u24 | packed bytes        (little-endian)

Source: Xet Protocol Specification 1.1.0, Xorb; draft-denis-xet-03, Xorb Format; LZ4 Frame Format 1.6.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor

from gongqi.kernel.errors import Refused
from gongqi.resources.hub.xet.chunks import Chunks
from gongqi.resources.hub.xet.hashes import Node, chunk_hash, text_of

HEADER_BYTES = 8
CHUNK_LIMIT_BYTES = 128 << 10  # twice the length that chunking aims at; packed or raw
CHUNK_COUNT_LIMIT = 8192
# The specification says 64 MiB as serialised. The clients count raw bytes, so that incompressible chunks fill 64 MiB
# and their headers come on top.
XORB_LIMIT_BYTES = (64 << 20) + CHUNK_COUNT_LIMIT * HEADER_BYTES
STORED, LZ4, GROUPED_LZ4 = 0, 1, 2  # 99, "automatic", is a wish of the writer and never written


@dataclass(frozen=True, slots=True)
class Xorb:
    """A xorb whose name has been computed. `places`: where each chunk's header is in the serialised form, and its end."""

    name: bytes
    chunks: Chunks
    places: array[int]


def read_xorb(file: BinaryIO, *, claimed: bytes) -> Xorb:
    """Read all of `file`, which is buffered, and compute what its name says. Nothing is kept but the list of chunks.

    Raises Refused hub.xet-xorb-malformed, hub.xet-xorb-too-large, hub.xet-xorb-differs.
    """
    places = array("Q", [0])

    def nodes() -> Iterator[Node]:
        for raw, size in _unpack(file, text_of(claimed)):
            places.append(places[-1] + size)
            if len(places) > CHUNK_COUNT_LIMIT + 1 or places[-1] > XORB_LIMIT_BYTES:
                raise too_large(text_of(claimed))
            yield chunk_hash(raw), len(raw)

    chunks = Chunks.of(nodes())
    if not chunks:
        raise _malformed(text_of(claimed), "it holds no chunk")
    if (name := chunks.root()) != claimed:
        raise Refused("hub.xet-xorb-differs", xorb=text_of(claimed), got=text_of(name))
    return Xorb(name, chunks, places)


def read_chunks(file: BinaryIO, xorb: Xorb, start: int, end: int) -> Iterator[bytes]:
    """The raw bytes of chunks [start, end) of a xorb read before, not checked again; `file` is not to be moved meanwhile."""
    file.seek(xorb.places[start])
    for raw, _ in islice(_unpack(file, text_of(xorb.name)), end - start):
        yield raw


def _unpack(file: BinaryIO, xorb: str) -> Iterator[tuple[bytes, int]]:
    """Each chunk's raw bytes, and how many bytes it takes in the file."""
    frames = LZ4FrameDecompressor()
    while header := file.read(HEADER_BYTES):
        if len(header) < HEADER_BYTES:
            raise _malformed(xorb, "it ends inside a chunk header")
        packed_bytes = int.from_bytes(header[1:4], "little")
        raw_bytes = int.from_bytes(header[5:8], "little")
        if header[0] != 0:  # also where the footer of a stored xorb begins, which no client uploads
            raise _malformed(xorb, f"a chunk header has version {header[0]}")
        if not 0 < packed_bytes <= CHUNK_LIMIT_BYTES or not 0 < raw_bytes <= CHUNK_LIMIT_BYTES:
            raise _malformed(xorb, f"a chunk of {packed_bytes} bytes claims to be {raw_bytes} bytes")
        packed = file.read(packed_bytes)
        if len(packed) < packed_bytes:
            raise _malformed(xorb, "it ends inside a chunk")
        scheme = header[4]
        if scheme not in (STORED, LZ4, GROUPED_LZ4):
            raise _malformed(xorb, f"a chunk is packed by scheme {scheme}")
        raw = packed if scheme == STORED else _unframed(frames, packed, raw_bytes, xorb)
        if len(raw) != raw_bytes:
            raise _malformed(xorb, f"a chunk of {len(raw)} bytes claims to be {raw_bytes} bytes")
        yield _interleaved(raw) if scheme == GROUPED_LZ4 else raw, HEADER_BYTES + packed_bytes


def _unframed(frames: LZ4FrameDecompressor, packed: bytes, raw_bytes: int, xorb: str) -> bytes:
    """What one LZ4 frame holds: all of the frame, nothing after it, and at most one byte more than it should hold."""
    frames.reset()
    try:
        raw = frames.decompress(packed, max_length=raw_bytes + 1)
    except RuntimeError as error:  # the only one that the library raises for bytes, whatever they are
        raise _malformed(xorb, "a chunk is not an LZ4 frame", detail=str(error)) from error
    if not frames.eof or frames.unused_data:
        raise _malformed(xorb, "a chunk is more or less than one LZ4 frame")
    return raw


def _interleaved(planes: bytes) -> bytes:
    """Undo byte grouping: four planes hold every fourth byte from 0, 1, 2 and 3; the first planes take a remainder."""
    raw, at = bytearray(len(planes)), 0
    for lane in range(4):
        width = len(range(lane, len(planes), 4))
        raw[lane::4] = planes[at : at + width]
        at += width
    return bytes(raw)


def too_large(xorb: str) -> Refused:
    return Refused("hub.xet-xorb-too-large", xorb=xorb, limit_bytes=XORB_LIMIT_BYTES, limit_chunks=CHUNK_COUNT_LIMIT)


def _malformed(xorb: str, flaw: str, *, detail: str | None = None) -> Refused:
    return Refused("hub.xet-xorb-malformed", xorb=xorb, flaw=flaw, detail=detail)
