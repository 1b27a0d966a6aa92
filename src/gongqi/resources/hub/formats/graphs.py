"""ONNX: a graph of named operators, which may also point at other files.

Three ways in are closed. *Memory*: a protobuf of a few megabytes can unfold into gigabytes, so the wire format is
walked first, driven by the message descriptors of `onnx` itself, and its messages, fields and depth are counted.
*Files*: an external tensor names a path that a reader will open, so it must be a file of the same revision. *Code*: an
operator outside the standard domains calls a library we do not have; a model that needs one is not self-contained.
Only then does `onnx.checker` judge the graph, on a copy whose external tensors were emptied, because the checker
opens the files it is told of.
Source: onnx docs/IR.md, docs/ExternalData.md (CVE-2022-25882, CVE-2024-27318, CVE-2024-5187); protobuf encoding guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import onnx
import onnx.checker
from google.protobuf.message import DecodeError, Message

from gongqi.resources.hub.formats import PARSER_FAULTS, Finding, printable
from gongqi.resources.hub.rules import path_flaw

ONNX_SIZE_LIMIT_BYTES = 128 << 20  # held in memory while checked; larger weights belong in external data
FIELD_LIMIT = 4_000_000  # proto2 writes each integer of a tree ensemble as a field: a forest of 400,000 nodes fits
MESSAGE_LIMIT = 500_000  # each costs some hundred bytes once parsed
TOP_FIELD_LIMIT = 100_000  # fields of the model itself, outside its graph; a large export has some hundred functions
DEPTH_LIMIT = 64  # of nested messages; protobuf itself stops at 100
FINDING_LIMIT = 20  # of one kind in one graph: the rest says nothing new

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"})
COMPILED_OPERATOR = "EPContext"  # com.microsoft: carries or names a program compiled for one accelerator

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _BadWire(Exception):
    """The bytes are not a protobuf of the expected shape."""


class _TooLarge(Exception):
    """The protobuf holds more parts than the limits allow."""


def looks_like_onnx(data: bytes) -> bool:
    """Whether the top-level fields, to the last byte, are those of a ModelProto with a version and a graph."""
    known, seen = onnx.ModelProto.DESCRIPTOR.fields_by_number, set()
    try:
        for count, (number, wire, _, _) in enumerate(_fields(data, 0, len(data))):
            if count > TOP_FIELD_LIMIT:
                return True  # let the inspection refuse it: such regularity is no accident
            if number not in known or wire != (_VARINT if known[number].type == known[number].TYPE_INT64 else _LENGTH):
                return False
            seen.add(number)
    except _BadWire:
        return False
    return {onnx.ModelProto.IR_VERSION_FIELD_NUMBER, onnx.ModelProto.GRAPH_FIELD_NUMBER} <= seen


def inspect_onnx(path: str, file: BinaryIO, size: int, siblings: frozenset[str]) -> list[Finding]:
    if size > ONNX_SIZE_LIMIT_BYTES:
        return [Finding("hub.onnx-too-large", path, params={"limit_bytes": ONNX_SIZE_LIMIT_BYTES})]
    file.seek(0)
    data = file.read(size)
    try:
        _count(data)
        model = onnx.ModelProto.FromString(data)
    except _TooLarge:
        return [Finding("hub.onnx-too-large", path, params={"limit_bytes": ONNX_SIZE_LIMIT_BYTES})]
    except (_BadWire, DecodeError, *PARSER_FAULTS):
        return [Finding("hub.onnx-malformed", path, params={"flaw": "not an ONNX protobuf"})]
    messages = list(_messages(model))
    findings = [*_operator_findings(path, model, messages), *_external_findings(path, messages, siblings)]
    return findings or _check(path, model, messages)


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


def _count(data: bytes) -> None:
    """Walk every message of the model and stop at the first limit. Raises _BadWire, _TooLarge."""
    fields = messages = 0  # counted when met, not when opened: the list of what is still to open is memory too
    pending: list[tuple[Any, int, int, int]] = [(onnx.ModelProto.DESCRIPTOR, 0, len(data), 1)]
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


# --- the graph -----------------------------------------------------------------------------------------------------


def _messages(root: Message) -> Iterator[Any]:
    """Every message inside the model, wherever the format allows one: no list of places that could be incomplete."""
    pending: list[Any] = [root]
    while pending:
        message = pending.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                pending.extend([value] if isinstance(value, Message) else value)


def _operator_findings(path: str, model: onnx.ModelProto, messages: list[Any]) -> list[Finding]:
    local = {(function.domain, function.name) for function in model.functions}
    foreign, compiled = set(), False
    for message in messages:
        if not isinstance(message, onnx.NodeProto):
            continue
        compiled = compiled or message.op_type == COMPILED_OPERATOR
        # A function defined in the model is made of operators that are checked here too.
        if message.domain not in DOMAINS and (message.domain, message.op_type) not in local:
            foreign.add((message.domain, message.op_type))
    findings = [
        Finding("hub.onnx-operator-unknown", path, params={"operator": printable(f"{domain}::{name}")})
        for domain, name in sorted(foreign)[:FINDING_LIMIT]
    ]
    return [*findings, Finding("hub.onnx-compiled", path)] if compiled else findings


def _external_findings(path: str, messages: list[Any], siblings: frozenset[str]) -> list[Finding]:
    findings: dict[tuple[str, str], Finding] = {}
    for message in messages:
        if not isinstance(message, onnx.TensorProto) or not _is_external(message):
            continue
        entries = [(entry.key, entry.value) for entry in message.external_data]
        code, shown = _external_flaw(path, entries, siblings)
        if code and len(findings) < FINDING_LIMIT:
            findings[code, shown] = Finding(code, path, params={"location": printable(shown)})
    return list(findings.values())


def _is_external(tensor: onnx.TensorProto) -> bool:
    # Some readers look at the entries, some at the flag: either is enough to open a file.
    return bool(tensor.external_data) or tensor.data_location == onnx.TensorProto.EXTERNAL


def _external_flaw(path: str, entries: list[tuple[str, str]], siblings: frozenset[str]) -> tuple[str | None, str]:
    """(code, location) of what is wrong with one tensor's external data; the code is None when all is well."""
    keys = [key for key, _ in entries]
    location = next((value for key, value in entries if key == "location"), "")
    if len(set(keys)) != len(keys) or "basepath" in keys:
        return "hub.onnx-external-outside", location  # two answers, or a base of its own: no single place to check
    if path_flaw(location):
        return "hub.onnx-external-outside", location
    for key, value in entries:
        if key in ("offset", "length") and not (value.isascii() and value.isdigit() and len(value) <= 18):
            return "hub.onnx-external-outside", location
    beside = str(PurePosixPath(path).parent / location)
    return (None if beside in siblings else "hub.onnx-external-missing"), location


def _check(path: str, model: onnx.ModelProto, messages: list[Any]) -> list[Finding]:
    for message in messages:
        if isinstance(message, onnx.TensorProto) and _is_external(message):
            # No elements, no data: valid to the checker, and nothing left for it to open.
            message.ClearField("external_data")
            message.ClearField("data_location")
            message.dims[:] = [0]
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, *PARSER_FAULTS) as fault:
        return [Finding("hub.onnx-malformed", path, params={"flaw": printable(str(fault).strip().split("\n")[0])})]
    return []
