"""ONNX: a graph of named operators, which may also point at other files.

Three ways in are closed. *Memory*: a protobuf of a few megabytes can unfold into gigabytes, so the wire format is
walked first, driven by the message descriptors of `onnx` itself, and its messages, fields and depth are counted.
*Files*: an external tensor names a path that a reader will open, so it must be a file of the same revision. *Code*: an
operator outside the standard domains calls a library we do not have; a model that needs one is not self-contained.
Only then does `onnx.checker` judge the graph, on a copy whose external tensors were emptied, because the checker
opens the files it is told of.

Here is the wire; what the graph says is in `operators.py`, which brings `onnx` and is loaded only for a file that looks
like a model: a server that receives none stays small.
Source: onnx docs/IR.md, docs/ExternalData.md (CVE-2022-25882, CVE-2024-27318, CVE-2024-5187); protobuf encoding guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from gongqi.resources.hub.formats import PARSER_FAULTS, Finding

ONNX_SIZE_LIMIT_BYTES = 128 << 20  # held in memory while checked; larger weights belong in external data
FIELD_LIMIT = 4_000_000  # proto2 writes each integer of a tree ensemble as a field: a forest of 400,000 nodes fits
MESSAGE_LIMIT = 500_000  # each costs some hundred bytes once parsed
TOP_FIELD_LIMIT = 100_000  # fields of the model itself, outside its graph; a large export has some hundred functions
DEPTH_LIMIT = 64  # of nested messages; protobuf itself stops at 100

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

# ModelProto, field by field: number → wire type. A test holds it against `onnx` itself.
MODEL_FIELDS = {1: _VARINT, 5: _VARINT, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), _LENGTH)}
IR_VERSION, GRAPH = 1, 7


class _BadWire(Exception):
    """The bytes are not a protobuf of the expected shape."""


class _TooLarge(Exception):
    """The protobuf holds more parts than the limits allow."""


def looks_like_onnx(data: bytes) -> bool:
    """Whether the top-level fields, to the last byte, are those of a ModelProto with a version and a graph."""
    seen = set()
    try:
        for count, (number, wire, _, _) in enumerate(_fields(data, 0, len(data))):
            if count > TOP_FIELD_LIMIT:
                return True  # let the inspection refuse it: such regularity is no accident
            if MODEL_FIELDS.get(number) != wire:
                return False
            seen.add(number)
    except _BadWire:
        return False
    return {IR_VERSION, GRAPH} <= seen


def inspect_onnx(path: str, file: BinaryIO, size: int, siblings: frozenset[str]) -> list[Finding]:
    if size > ONNX_SIZE_LIMIT_BYTES:
        return [Finding("hub.onnx-too-large", path, params={"limit_bytes": ONNX_SIZE_LIMIT_BYTES})]
    from gongqi.resources.hub.formats import operators

    file.seek(0)
    data = file.read(size)
    try:
        _count(data, operators.MODEL)
        model = operators.parse(data)
    except _TooLarge:
        return [Finding("hub.onnx-too-large", path, params={"limit_bytes": ONNX_SIZE_LIMIT_BYTES})]
    except (_BadWire, *PARSER_FAULTS):
        return [Finding("hub.onnx-malformed", path, params={"flaw": "not-a-protobuf"})]
    return operators.judge(path, model, siblings)


# --- the wire ------------------------------------------------------------------------------------------------------


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _BadWire
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _BadWire


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field as (number, wire type, start of payload, end of payload)."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, finish = _varint(data, at, end)
        elif wire == _LENGTH:
            length, at = _varint(data, at, end)
            finish = at + length
        elif wire in (_FIXED64, _FIXED32):
            finish = at + (8 if wire == _FIXED64 else 4)
        else:
            raise _BadWire  # groups: no ONNX message has one
        if number == 0 or finish > end:
            raise _BadWire
        yield number, wire, at, finish
        at = finish


def _count(data: bytes, model: Any) -> None:
    """Walk every message of the model and stop at the first limit. Raises _BadWire, _TooLarge."""
    fields = messages = 0  # counted when met, not when opened: the list of what is still to open is memory too
    pending: list[tuple[Any, int, int, int]] = [(model, 0, len(data), 1)]
    while pending:
        descriptor, start, end, depth = pending.pop()
        known = descriptor.fields_by_number
        for number, wire, begin, finish in _fields(data, start, end):
            fields += 1
            child = known[number].message_type if wire == _LENGTH and number in known else None
            if child is not None:
                messages += 1
                pending.append((child, begin, finish, depth + 1))
            if fields > FIELD_LIMIT or messages > MESSAGE_LIMIT or depth > DEPTH_LIMIT:
                raise _TooLarge
