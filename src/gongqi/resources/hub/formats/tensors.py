"""Plain tensor files: safetensors and NumPy arrays. Numbers that should stay numbers.

safetensors was made so that reading it cannot run code; that holds only for files that keep its rules, so all of them
are checked: header bounded and real JSON without double keys, every byte of the buffer claimed exactly once, shape
times dtype equal to length. A NumPy array may hold "objects", which are pickles: those are refused.
Source: https://github.com/huggingface/safetensors (format, and the Rust `validate`); NumPy NEP 1.
"""

from __future__ import annotations

import ast
import json
from typing import Any, BinaryIO

from gongqi.resources.hub.formats import PARSER_FAULTS, Finding, Flaw, printable

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


# --- safetensors ---------------------------------------------------------------------------------------------------


def looks_like_safetensors(head: bytes, size: int) -> bool:
    return len(head) >= 10 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def inspect_safetensors(path: str, file: BinaryIO, size: int) -> list[Finding]:
    try:
        _check_safetensors(file, size)
    except Flaw as flaw:
        return [Finding("hub.safetensors-malformed", path, params=flaw.params)]
    except PARSER_FAULTS:
        return [Finding("hub.safetensors-malformed", path, params={"flaw": "header-not-json"})]
    return []


def _check_safetensors(file: BinaryIO, size: int) -> None:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length > size - 8:
        raise Flaw("header-past-end")
    if length > SAFETENSORS_HEADER_LIMIT_BYTES:
        raise Flaw("header-too-long")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise Flaw("header-no-brace")
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Flaw("metadata-not-text")
    end = 0
    for begin, finish in sorted(_span(name, entry) for name, entry in header.items()):
        if begin != end:
            raise Flaw("tensors-overlap")
        end = finish
    if end != size - 8 - length:
        raise Flaw("tensors-uncovering")


def _span(name: str, entry: Any) -> tuple[int, int]:
    """The bytes a tensor claims, after checking that they are as many as its shape and dtype need."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Flaw("tensor-fields", tensor=printable(name))
    shape, offsets = entry["shape"], entry["data_offsets"]
    bits = SAFETENSORS_BITS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if bits is None:
        raise Flaw("tensor-dtype", tensor=printable(name))
    if not _are_sizes(shape) or len(shape) > RANK_LIMIT or not _are_sizes(offsets) or len(offsets) != 2:
        raise Flaw("tensor-impossible", tensor=printable(name))
    for extent in shape:
        bits *= extent
    begin, finish = offsets
    if finish < begin or bits != (finish - begin) * 8:
        raise Flaw("tensor-length", tensor=printable(name))
    return begin, finish


def _are_sizes(values: Any) -> bool:
    # bool is an int in Python; JSON true is not a size. 2**63 is what readers hold in a machine word.
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Flaw("key-twice")
    return found


def _no_constant(_name: str) -> float:
    raise Flaw("header-not-json")


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
