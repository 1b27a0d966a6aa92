"""What a description may claim of a table: its columns, each with a type that every reader will find there.

Readers of the records are given the type that was claimed or an error, so nothing is claimed that was not read to its
end. A column of text with gaps is a number where it would have been an integer, because readers make it one. What is
packed, or divided otherwise than its name says, has no columns that a description could name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WITH_GAPS = {"integer": "number", "boolean": "text", "date": "text"}
CLAIMED = {"decimal": "number", "datetime": "text", "mixed": "text"}
DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Column:
    """`type`: integer, number, boolean, date or text."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table among the files. `rows` is None where it was not read to its end."""

    path: str
    columns: tuple[Column, ...]
    rows: int | None


def claimed(path: str, form: str, found: Mapping[str, Any]) -> Table | None:
    """The table that `found` (tables/profile.py) lets us claim, or None."""
    if "flaw" in found or found["delimiter"] != DELIMITERS.get(form, ""):
        return None
    columns = [(each, _type(each, found, is_declared=form == "parquet")) for each in found["columns"]]
    kept = tuple(Column(each["name"], kind) for each, kind in columns if kind is not None)
    return Table(path, kept, found["rows"]) if kept else None


def _type(column: Mapping[str, Any], found: Mapping[str, Any], *, is_declared: bool) -> str | None:
    kind = column["type"]
    if kind == "nested" or (is_declared and kind in ("decimal", "datetime")):
        return None
    if not (found["is_whole"] or is_declared):
        return "text"
    kind = str(CLAIMED.get(kind, kind))
    return WITH_GAPS.get(kind, kind) if column.get("nulls", 1) or not found["is_whole"] else kind
