"""What an ONNX graph says: which operators it needs, which files it points at, and whether `onnx.checker` accepts it.

Called by `graphs.py` once the wire is known to be bounded; see there for why.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import onnx
import onnx.checker
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from gongqi.resources.hub.formats import PARSER_FAULTS, Finding, printable
from gongqi.resources.hub.rules import path_flaw

MODEL = onnx.ModelProto.DESCRIPTOR
FINDING_LIMIT = 20  # of one kind in one graph: the rest says nothing new
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"})
COMPILED_OPERATOR = "EPContext"  # com.microsoft: carries or names a program compiled for one accelerator


def parse(data: bytes) -> onnx.ModelProto:
    """Raises ValueError for bytes that are no ModelProto, or one whose names are no text."""
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as fault:
        raise ValueError(str(fault)) from fault
    if any(_is_no_text(message) for message in _messages(model)):
        raise ValueError("a string that is not UTF-8")
    return model


def judge(path: str, model: onnx.ModelProto, siblings: frozenset[str]) -> list[Finding]:
    messages = list(_messages(model))
    findings = [*_operator_findings(path, model, messages), *_external_findings(path, messages, siblings)]
    return findings or _check(path, model, messages)


def _messages(root: Message) -> Iterator[Any]:
    """Every message inside the model, wherever the format allows one: no list of places that could be incomplete."""
    pending: list[Any] = [root]
    while pending:
        message = pending.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                pending.extend([value] if isinstance(value, Message) else value)


def _is_no_text(message: Any) -> bool:
    """Whether a string of this message is not UTF-8: of a proto2 message, as ONNX has them, protobuf gives its bytes."""
    strings = (value for field, value in message.ListFields() if field.type == FieldDescriptor.TYPE_STRING)
    return any(
        isinstance(each, bytes) for value in strings for each in ([value] if isinstance(value, (str, bytes)) else value)
    )


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
        said = printable(str(fault).strip().split("\n")[0])
        return [Finding("hub.onnx-malformed", path, params={"flaw": "checker-refuses", "said": said})]
    return []
