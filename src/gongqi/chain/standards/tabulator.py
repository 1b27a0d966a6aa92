"""What reads a table of text for its columns, in a bounded child that is forked for each file (tables.py asks for it).

A column's type is what all of its values agree on, once every one was read; of a file that is longer than READ_BYTES the
types are not known, and its columns are called text, which every value is. A column with gaps is a number where it would
have been an integer, because readers of such columns make it one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

READ_BYTES = 64 << 20  # a second or two of reading
MAX_COLUMNS = 2_000
MAX_NAME = 200  # characters of a column's name
CELL_BYTES = 1 << 20

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
# What a value of one type may also be called, narrowest first. A type that is in no row of the other is no type of both.
_WIDER = {
    "integer": ("integer", "number", "text"), "number": ("number", "text"), "date": ("date", "text"),
    "boolean": ("boolean", "text"), "text": ("text",), "nested": ("nested",),
}  # fmt: skip
WITH_GAPS = {"integer": "number", "boolean": "text", "date": "text"}


def serve(request: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
    """The columns (name, type) and rows of a table; `columns` is empty when the file is none after all."""
    read = {"csv": _csv, "tsv": _csv, "jsonl": _jsonl}[request["form"]]
    columns, rows = read(file, request)
    return {"columns": columns if are_sound([name for name, _ in columns]) else [], "rows": rows}


def are_sound(names: list[str]) -> bool:
    """Whether these can be the names of a table's columns."""
    return len(set(names)) == len(names) <= MAX_COLUMNS and all(0 < len(name) <= MAX_NAME for name in names)


def _csv(file: BinaryIO, request: dict[str, Any]) -> tuple[list[tuple[str, str]], int | None]:
    csv.field_size_limit(CELL_BYTES)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="strict", newline="")
    rows = csv.reader(text, delimiter="\t" if request["form"] == "tsv" else ",", strict=True)
    try:
        header = next(rows, [])[: MAX_COLUMNS + 1]
        if request["size"] > READ_BYTES:
            return [(name, "text") for name in header], None
        seen: list[_Seen] = [_Seen() for _ in header]
        count = 0
        for row in rows:
            if len(row) != len(header):
                return [], None
            count += 1
            for column, value in zip(seen, row, strict=True):
                column.add(_kind_of_text(value) if value else None)
    except (csv.Error, UnicodeDecodeError):
        return [], None
    return [(name, column.type) for name, column in zip(header, seen, strict=True)], count


def _jsonl(file: BinaryIO, request: dict[str, Any]) -> tuple[list[tuple[str, str]], int | None]:
    seen: dict[str, _Seen] = {}
    count = 0
    try:
        for row in _objects(file):
            for name in row:
                if name not in seen:
                    seen[name] = _Seen(gaps=count > 0)
            for name, column in seen.items():
                column.add(_kind_of_json(row.get(name)))
            count += 1
            if len(seen) > MAX_COLUMNS:
                return [], None
    except (ValueError, RecursionError):
        return [], None
    is_whole = request["size"] <= READ_BYTES
    columns = [(name, column.type if is_whole or column.type == "nested" else "text") for name, column in seen.items()]
    return [each for each in columns if each[1] != "nested"], count if is_whole else None


def _objects(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, of its first READ_BYTES. Raises ValueError for what is none."""
    left = READ_BYTES
    while left > 0 and (line := file.readline(min(left, CELL_BYTES))):
        left -= len(line)
        if not line.endswith(b"\n") and len(line) == CELL_BYTES:
            raise ValueError("a line is too long")
        if left <= 0 and not line.endswith(b"\n"):
            return
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("a line is no object")
        yield row


class _Seen:
    """What the values of one column have been so far."""

    def __init__(self, *, gaps: bool = False) -> None:
        self._gaps = gaps
        self._kinds: tuple[str, ...] | None = None

    def add(self, kind: str | None) -> None:
        if kind is None:
            self._gaps = True
        elif self._kinds is None:
            self._kinds = _WIDER[kind]
        elif kind != self._kinds[0]:
            both = tuple(each for each in self._kinds if each in _WIDER[kind])
            self._kinds = both or ("nested",)

    @property
    def type(self) -> str:
        kind = (self._kinds or ("text",))[0]
        return WITH_GAPS.get(kind, kind) if self._gaps else kind


def _kind_of_text(value: str) -> str:
    if _INTEGER.fullmatch(value):
        return "integer" if value.lstrip("+-") == "0" or not value.lstrip("+-").startswith("0") else "text"
    if _NUMBER.fullmatch(value):
        return "number"
    if value in ("true", "false", "True", "False"):
        return "boolean"
    return "date" if _DATE.fullmatch(value) else "text"


def _kind_of_json(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if abs(value) < 1 << 63 else "number"
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else "nested"
