"""GGUF: a header of metadata and tensor descriptions, then one buffer. Readers written in C have trusted its counts.

Everything the header says is checked against the file before anybody could allocate by it: counts, lengths of strings,
depth (arrays of arrays are allowed by the letter and written by nobody), names, extents, alignment, and that each
tensor of a known type lies within the buffer. A type newer than our table is left to its place being inside the file.
Source: ggml docs/gguf.md (versions 2 and 3, little-endian); block sizes as in `gguf` 0.19 (GGML_QUANT_SIZES).
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from gongqi.resources.hub.formats import Finding, Flaw, printable

GGUF_MAGIC = b"GGUF"
COUNT_LIMIT = 4_000_000  # tensors, pairs and strings in arrays together: a vocabulary of 512k with its merges, twice
KEY_LIMIT_BYTES = 65_535  # the specification's own
NAME_LIMIT_BYTES = 64  # of a tensor; the specification's own
STRING_LIMIT_BYTES = 16 << 20  # a whole tokenizer.json is stored as one string by some converters
RANK_LIMIT = 8  # the specification has 4 and reserves the right to more
ALIGNMENT_KEY, DEFAULT_ALIGNMENT, ALIGNMENT_LIMIT = b"general.alignment", 32, 1 << 20
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
UINT32, BOOL, STRING, ARRAY = 4, 7, 8, 9
# type → (elements a block, bytes a block)
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip


def inspect_gguf(path: str, file: BinaryIO, size: int) -> list[Finding]:
    try:
        _check(_Cursor(file, size))
    except struct.error:
        return [Finding("hub.gguf-malformed", path, params={"flaw": "cut-short"})]
    except Flaw as flaw:
        return [Finding("hub.gguf-malformed", path, params=flaw.params)]
    return []


class _Cursor:
    """Reads little-endian fields, never past the end, never more than the limit in all."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.left = file, size, COUNT_LIMIT
        file.seek(len(GGUF_MAGIC))

    def number(self, form: str) -> int:
        return struct.unpack(form, self.file.read(struct.calcsize(form)))[0]

    def take(self, count: int) -> range:
        """So many things are about to be walked one by one."""
        self.left -= count
        if self.left < 0:
            raise Flaw("too-many-parts")
        return range(count)

    def skip(self, length: int) -> None:
        if length > self.size - self.file.tell():
            raise Flaw("field-past-end")
        self.file.seek(length, 1)

    def text(self, limit: int) -> bytes:
        """A string that is needed: a name."""
        length = self.number("<Q")
        if length > limit:
            raise Flaw("text-too-long")
        held = self.file.read(length)
        if len(held) < length:
            raise Flaw("field-past-end")
        return held

    def skip_text(self) -> None:
        length = self.number("<Q")
        if length > STRING_LIMIT_BYTES:
            raise Flaw("text-too-long")
        self.skip(length)


def _check(cursor: _Cursor) -> None:
    if cursor.number("<I") not in (2, 3):
        raise Flaw("version-unknown")
    tensors, pairs = cursor.take(cursor.number("<Q")), cursor.take(cursor.number("<Q"))
    alignment = _metadata(cursor, pairs)
    ends: list[tuple[bytes, int, int]] = []
    names: set[bytes] = set()
    for _ in tensors:
        name, offset, length = _tensor(cursor)
        if name in names:
            raise Flaw("tensor-twice", tensor=_shown(name))
        if offset % alignment:
            raise Flaw("tensor-unaligned", tensor=_shown(name))
        names.add(name)
        ends.append((name, offset, length))
    begin = -(-cursor.file.tell() // alignment) * alignment
    for name, offset, length in ends:
        if begin + offset + length > cursor.size:
            raise Flaw("tensor-past-end", tensor=_shown(name))


def _metadata(cursor: _Cursor, pairs: range) -> int:
    """Walk the metadata; returns the alignment of the buffer in bytes."""
    alignment, keys = DEFAULT_ALIGNMENT, set()
    for _ in pairs:
        key, kind = cursor.text(KEY_LIMIT_BYTES), cursor.number("<I")
        if key in keys:
            raise Flaw("key-twice", key=_shown(key))
        keys.add(key)
        if key == ALIGNMENT_KEY and kind == UINT32:
            alignment = cursor.number("<I")
            if not 0 < alignment <= ALIGNMENT_LIMIT or alignment % 8:
                raise Flaw("alignment-impossible")
        elif kind == BOOL:
            if cursor.number("<B") > 1:
                raise Flaw("value-type-unknown")
        elif kind == ARRAY:
            _skip_array(cursor)
        else:
            _skip_values(cursor, kind, 1)
    return alignment


def _skip_array(cursor: _Cursor) -> None:
    kind, count = cursor.number("<I"), cursor.number("<Q")
    _skip_values(cursor, kind, count)


def _skip_values(cursor: _Cursor, kind: int, count: int) -> None:
    if kind in SCALAR_BYTES:
        cursor.skip(count * SCALAR_BYTES[kind])
    elif kind == STRING:
        for _ in cursor.take(count):
            cursor.skip_text()
    else:
        raise Flaw("value-type-unknown")


def _tensor(cursor: _Cursor) -> tuple[bytes, int, int]:
    """(name, offset in the buffer, length in bytes or 0 for a type that is not in our table)."""
    name, rank = cursor.text(NAME_LIMIT_BYTES), cursor.number("<I")
    if rank > RANK_LIMIT:
        raise Flaw("tensor-rank", tensor=_shown(name))
    extents = [cursor.number("<Q") for _ in range(rank)]
    kind, offset = cursor.number("<I"), cursor.number("<Q")
    elements = 1
    for extent in extents:
        elements *= extent
    if elements >= 1 << 63 or offset >= 1 << 63:  # a machine word of the readers
        raise Flaw("tensor-impossible", tensor=_shown(name))
    block, block_bytes = BLOCKS.get(kind, (1, 0))
    if extents and extents[0] % block:  # rows are whole blocks
        raise Flaw("tensor-impossible", tensor=_shown(name))
    return name, offset, elements // block * block_bytes


def _shown(name: bytes) -> str:
    return printable(name.decode("utf-8", "replace"))
