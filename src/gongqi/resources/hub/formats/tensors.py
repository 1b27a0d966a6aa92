"""Plain tensor files: safetensors, NumPy arrays, GGUF headers. Numbers that should stay numbers.

safetensors was made so that reading it cannot run code; that holds only for files that keep its rules, so all of them
are checked: header bounded and real JSON without double keys, every byte of the buffer claimed exactly once, shape
times dtype equal to length. A NumPy array may hold "objects", which are pickles: those are refused.
Source: https://github.com/huggingface/safetensors (format, and the Rust `validate`); NumPy NEP 1; ggml docs/gguf.md.
"""

from __future__ import annotations

import ast
import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from gongqi.resources.hub.formats import PARSER_FAULTS, Finding, printable

# The reference reader allows 100 MB; parsing that much JSON costs a gigabyte of memory. This describes 100,000 tensors.
SAFETENSORS_HEADER_LIMIT_BYTES = 16 << 20
RANK_LIMIT = 64  # NumPy's own limit on dimensions
SAFETENSORS_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
NUMPY_MAGIC = b"\x93NUMPY"
NUMPY_HEADER_LIMIT_BYTES = 64 << 10  # a structured dtype with a thousand fields fits
GGUF_MAGIC = b"GGUF"
GGUF_COUNT_LIMIT = 1_000_000  # tensors, metadata pairs, array elements together; a 256k-token vocabulary fits thrice
GGUF_STRING_LIMIT_BYTES = 4 << 20  # the longest chat template or merge list seen is under 1 MB


class _Flaw(Exception):
    """A rule of the format that this file breaks, in words for the log and the page."""


# --- safetensors ---------------------------------------------------------------------------------------------------


def looks_like_safetensors(head: bytes, size: int) -> bool:
    return len(head) >= 10 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def inspect_safetensors(path: str, file: BinaryIO, size: int) -> list[Finding]:
    try:
        _check_safetensors(file, size)
    except _Flaw as flaw:
        return [Finding("hub.safetensors-malformed", path, params={"flaw": str(flaw)})]
    except PARSER_FAULTS:
        return [Finding("hub.safetensors-malformed", path, params={"flaw": "header is not valid JSON"})]
    return []


def _check_safetensors(file: BinaryIO, size: int) -> None:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length > size - 8:
        raise _Flaw("header is longer than the file")
    if length > SAFETENSORS_HEADER_LIMIT_BYTES:
        raise _Flaw("header is longer than the limit")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise _Flaw("header does not begin with a brace")
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _Flaw("__metadata__ is not a map of strings")
    end = 0
    for begin, finish in sorted(_span(name, entry) for name, entry in header.items()):
        if begin != end:
            raise _Flaw("tensors overlap or leave a hole")
        end = finish
    if end != size - 8 - length:
        raise _Flaw("tensors do not cover the file exactly")


def _span(name: str, entry: Any) -> tuple[int, int]:
    """The bytes a tensor claims, after checking that they are as many as its shape and dtype need."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _Flaw(f"tensor {printable(name)} lacks dtype, shape or data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    bits = SAFETENSORS_BITS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if bits is None:
        raise _Flaw(f"tensor {printable(name)} has an unknown dtype")
    if not _are_sizes(shape) or len(shape) > RANK_LIMIT or not _are_sizes(offsets) or len(offsets) != 2:
        raise _Flaw(f"tensor {printable(name)} has an impossible shape or offset")
    for extent in shape:
        bits *= extent
    begin, finish = offsets
    if finish < begin or bits != (finish - begin) * 8:
        raise _Flaw(f"tensor {printable(name)} has a shape that does not fit its length")
    return begin, finish


def _are_sizes(values: Any) -> bool:
    # bool is an int in Python; JSON true is not a size. 2**63 is what readers hold in a machine word.
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Flaw("header names one key twice")
    return found


def _no_constant(name: str) -> float:
    raise _Flaw(f"header holds {name}, which is not JSON")


# --- NumPy ---------------------------------------------------------------------------------------------------------


def inspect_numpy(path: str, file: BinaryIO, size: int) -> list[Finding]:
    """An array of numbers passes; an array of objects is a pickle in disguise."""
    import numpy  # its reading of a dtype is the one that counts; a server that meets no array does without

    try:
        file.seek(len(NUMPY_MAGIC))
        major = file.read(2)[0]
        length = int.from_bytes(file.read(2 if major == 1 else 4), "little")
        if major not in (1, 2, 3) or length > min(size, NUMPY_HEADER_LIMIT_BYTES):
            return [Finding("hub.numpy-malformed", path)]
        header = ast.literal_eval(file.read(length).decode("utf-8" if major == 3 else "latin-1"))
        holds_objects = numpy.dtype(header["descr"]).hasobject
    except (*PARSER_FAULTS, TypeError):  # numpy answers a nonsense dtype with TypeError
        return [Finding("hub.numpy-malformed", path)]
    return [Finding("hub.pickle", path, offset=file.tell())] if holds_objects else []


# --- GGUF ----------------------------------------------------------------------------------------------------------


_GGUF_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_STRING, _GGUF_ARRAY = 8, 9


def inspect_gguf(path: str, file: BinaryIO, size: int) -> list[Finding]:
    """Walk the header within limits. Readers written in C have trusted these counts, with known results."""
    try:
        flaw = _gguf_flaw(_Cursor(file, size))
    except (struct.error, _Flaw) as fault:
        flaw = str(fault) or "header ends early"
    return [Finding("hub.gguf-malformed", path, params={"flaw": flaw})] if flaw else []


class _Cursor:
    """Reads little-endian fields, never past the end, never more than the limit in all."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.left = file, size, GGUF_COUNT_LIMIT
        file.seek(len(GGUF_MAGIC))

    def number(self, form: str) -> int:
        return struct.unpack(form, self.file.read(struct.calcsize(form)))[0]

    def count(self, form: str = "<Q") -> Iterator[int]:
        total = self.number(form)
        self.left -= total
        if self.left < 0:
            raise _Flaw("counts are larger than the limit")
        return iter(range(total))

    def skip(self, length: int) -> None:
        if length > self.size - self.file.tell():
            raise _Flaw("a field runs past the end of the file")
        self.file.seek(length, 1)

    def string(self) -> None:
        length = self.number("<Q")
        if length > GGUF_STRING_LIMIT_BYTES:
            raise _Flaw("a string is longer than the limit")
        self.skip(length)


def _gguf_flaw(cursor: _Cursor) -> str | None:
    if cursor.number("<I") not in (2, 3):
        return "version is not 2 or 3"
    tensors, pairs = cursor.count(), cursor.count()
    for _ in pairs:
        cursor.string()
        _skip_gguf_value(cursor, cursor.number("<I"), nested=False)
    for _ in tensors:
        cursor.string()
        rank = cursor.number("<I")
        if rank > RANK_LIMIT:
            return "a tensor has too many dimensions"
        cursor.skip(8 * rank + 4 + 8)  # extents, type, offset into the data
    return None


def _skip_gguf_value(cursor: _Cursor, kind: int, *, nested: bool) -> None:
    if kind in _GGUF_SCALAR_BYTES:
        cursor.skip(_GGUF_SCALAR_BYTES[kind])
    elif kind == _GGUF_STRING:
        cursor.string()
    elif kind == _GGUF_ARRAY and not nested:  # arrays of arrays are allowed by the letter and written by nobody
        element = cursor.number("<I")
        for _ in cursor.count():
            _skip_gguf_value(cursor, element, nested=True)
    else:
        raise _Flaw("a value has an unknown type")
