"""Pickle: a program that runs when it is read. Any pickle is refused, whatever it contains.

A deny-list of dangerous imports is always one import behind, so nothing is judged here except "is this a pickle". The
opcode stream is walked with the table of `pickletools` and its stack effects are imitated as `pickletools.dis` does;
nothing is built and nothing is called. Three things make bytes a pickle:

- a PROTO header (protocol 2 to 5, and the legal but unusual 0 and 1) followed by at least one valid opcode;
- a well-formed stream that ends exactly at the end of the file (protocol 0 and 1, which have no header);
- an import that is called, or an import followed by STOP, before the first malformed opcode: a stream that is broken
  on purpose has already run by the time the reader notices.

The last two rules let ordinary text through: a word list may begin with valid opcodes, but does not end as a pickle.
Source: CPython Lib/pickletools.py; PEP 3154 (protocol 4), PEP 574 (protocol 5).
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import BinaryIO

from gongqi.resources.hub.formats import PARSER_FAULTS

PROTO = 0x80
HIGHEST_PROTOCOL = 5
OPCODE_LIMIT = 1_000_000  # well-formed opcodes after which a stream is a pickle by weight of evidence; about a second
LINE_LIMIT_BYTES = 64 << 10  # the longest newline-terminated argument; text protocols write short ones

_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_IMPORTS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})
_CALLS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
_MARK = pickletools.markobject

# Wider than any reader accepts: CPython's C unpickler takes `I0x10` where `pickletools` does not, and a walk that is
# stricter than the reader can be thrown off by a first opcode that only the reader understands.
_ANY = re.compile(rb".*", re.DOTALL)
_DIGITS = re.compile(rb"[\s0-9a-fA-FxXoO_lL+-]*")
_LINE_FORMS = {
    **dict.fromkeys(("INT", "LONG", "GET", "PUT"), _DIGITS),
    "FLOAT": re.compile(rb"[\s0-9a-zA-Z_.+-]*"),
    "STRING": re.compile(rb"\s*(?:'.*'|\".*\")\s*", re.DOTALL),
}


@dataclass(slots=True)
class _Walk:
    """How far a stream could be followed before it stopped or stopped making sense."""

    opcodes: int = 0
    imports: bool = False
    calls: bool = False
    stopped_at: int | None = None


class _Malformed(Exception):
    """The stream stops being a pickle here."""


def is_pickle(file: BinaryIO, size: int) -> bool:
    """Whether unpickling these bytes could do anything at all. Reads only as far as it must."""
    file.seek(0)
    head = file.read(2)
    headed = len(head) == 2 and head[0] == PROTO and head[1] <= HIGHEST_PROTOCOL
    walk = _follow(file, size, enough=2 if headed else OPCODE_LIMIT)
    if headed:
        return walk.opcodes >= 2
    if walk.opcodes >= OPCODE_LIMIT or (walk.imports and walk.calls):
        return True
    return walk.stopped_at is not None and (walk.imports or walk.stopped_at == size)


def _follow(file: BinaryIO, size: int, *, enough: int) -> _Walk:
    walk, stack, marks = _Walk(), [], 0
    file.seek(0)
    try:
        while walk.opcodes < enough:
            code = file.read(1)
            opcode = _OPCODES.get(code[0]) if code else None
            if opcode is None:
                break
            _skip_argument(opcode, file, size)
            marks = _apply(opcode, stack, marks)
            walk.opcodes += 1
            walk.imports = walk.imports or opcode.name in _IMPORTS
            walk.calls = walk.calls or (walk.imports and opcode.name in _CALLS)
            if opcode.name == "STOP":
                walk.stopped_at = file.tell()
                break
    except (_Malformed, *PARSER_FAULTS):
        pass  # not a fault of ours: the walk simply ends where the pickle does
    return walk


def _skip_argument(opcode: pickletools.OpcodeInfo, file: BinaryIO, size: int) -> None:
    """Step over an argument without holding it: a counted string may claim exabytes."""
    argument = opcode.arg
    if argument is None:
        return
    if argument.n in _LENGTH_BYTES:
        prefix = file.read(_LENGTH_BYTES[argument.n])
        length = int.from_bytes(prefix, "little")
        if len(prefix) < _LENGTH_BYTES[argument.n] or length > size - file.tell():
            raise _Malformed
        file.seek(length, 1)
    elif argument.n == pickletools.UP_TO_NEWLINE:
        for _ in range(2 if argument is pickletools.stringnl_noescape_pair else 1):
            line = file.readline(LINE_LIMIT_BYTES)
            if not line.endswith(b"\n") or not _LINE_FORMS.get(opcode.name, _ANY).fullmatch(line[:-1]):
                raise _Malformed
    elif len(file.read(argument.n)) < argument.n:
        raise _Malformed


def _apply(opcode: pickletools.OpcodeInfo, stack: list[object], marks: int) -> int:
    """Imitate an opcode's stack effect and return the number of open marks, as `pickletools.dis` does."""
    before, after = opcode.stack_before, opcode.stack_after
    pops = len(before)
    if _MARK in before or (opcode.name == "POP" and stack and stack[-1] is _MARK):
        if not marks:
            raise _Malformed
        marks -= 1
        while stack.pop() is not _MARK:
            pass
        pops = before.index(_MARK) if _MARK in before else 0
    if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE") and not stack:
        raise _Malformed
    if len(stack) < pops:
        raise _Malformed
    if pops:
        if _MARK in stack[-pops:]:
            raise _Malformed  # every reader keeps a fence here
        del stack[-pops:]
    stack.extend(after)
    return marks + after.count(_MARK)
