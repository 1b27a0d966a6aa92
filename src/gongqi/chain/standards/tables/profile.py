"""What the columns of a loaded table hold, in figures, and its first rows; within a child.

A column's type is what all of its values agree on. Text is a number only if nothing is lost by calling it one, so `007`
is text; a text of JSON is never one, and a column of JSON that holds texts and numbers is mixed. Counts and extremes are
exact, `distinct` is an estimate (HyperLogLog).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import duckdb

from gongqi.chain.standards.tables.loading import DB, Loaded

HEAD_ROWS = 20
HEAD_COLUMNS = 50
CELL_CHARACTERS = 200
MEASURED_COLUMNS = 200  # the others are named, with their type
BINS = 20
TOP_VALUES = 8
TOP_CHARACTERS = 80
LOOKED_AT = 200  # rows that rule out most types, before all are asked
ASKED_AT_ONCE = 500  # columns and types in one query
MAX_SAFE = 1 << 53  # beyond it not every reader of JSON keeps an integer

# Text that is of a type, narrowest first.
FORMS = {
    "boolean": "true|false|True|False|TRUE|FALSE",
    "integer": "-?(0|[1-9][0-9]{0,17})",
    "number": "[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?",
    "date": "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "datetime": "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?(Z|[-+][0-9]{2}:?[0-9]{2})?",
}
PADDED = "[-+]?0[0-9].*"  # a number whose leading zeros would be lost
_COMPILED = {kind: re.compile(form) for kind, form in FORMS.items()}
_OF_JSON = {
    "BOOLEAN": "boolean", "BIGINT": "integer", "UBIGINT": "integer", "DOUBLE": "number", "VARCHAR": "text",
    "OBJECT": "nested", "ARRAY": "nested",
}  # fmt: skip
_SQL_TYPES = {"boolean": "BOOLEAN", "integer": "HUGEINT", "number": "DOUBLE", "date": "DATE", "datetime": "TIMESTAMP"}


def profile(loaded: Loaded) -> dict[str, Any]:
    """The whole of what is kept of a table."""
    kinds = types_of(loaded)
    counts = _counts(loaded)
    columns = []
    for number, (column, kind) in enumerate(zip(loaded.columns, kinds, strict=True)):
        figures = counts[number] | _measure(loaded, number, kind) if number < len(counts) else {}
        columns.append({"name": column.name, "type": kind, **figures})
    return {
        "columns": columns, "rows": loaded.total, "read": loaded.rows, "is_whole": loaded.is_whole,
        "delimiter": loaded.delimiter, "head": _head(loaded),
    }  # fmt: skip


def types_of(loaded: Loaded) -> list[str]:
    """Of each column: boolean, integer, number, decimal, date, datetime, text, mixed or nested."""
    found: dict[int, str] = {}
    open_: dict[int, list[str]] = {}  # the types that each column may yet be of, narrowest first
    for number, column in enumerate(loaded.columns):
        if column.kind == "json":
            found[number] = _type_of_json(loaded, number)
            if found[number] == "text":
                open_[number] = ["date", "datetime"]
        elif column.kind:
            found[number] = column.kind
        else:
            open_[number] = list(FORMS)
    begun = _begun(loaded, open_)
    open_ = {number: [kind for kind in kinds if _may_be(kind, begun[number])] for number, kinds in open_.items()}
    while asked := [(number, kinds[0]) for number, kinds in open_.items() if kinds]:
        fitting = _fitting(loaded, asked)
        found |= dict(fitting)
        open_ = {number: open_[number][1:] for number, kind in asked if (number, kind) not in fitting}
    return [found.get(number, "text") for number in range(len(loaded.columns))]


def _type_of_json(loaded: Loaded, number: int) -> str:
    said = DB.execute(f"SELECT DISTINCT json_type(c{number}) FROM {loaded.table}").fetchall()
    kinds = {_OF_JSON[name] for (name,) in said if name not in (None, "NULL")}
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds == {"integer", "number"}:
        return "number"
    return "nested" if "nested" in kinds else "mixed" if kinds else "text"


def _begun(loaded: Loaded, numbers: Iterable[int]) -> dict[int, list[str]]:
    """The values of these columns in the first rows."""
    asked = list(numbers)
    if not asked:
        return {}
    texts = ", ".join(loaded.text(number) for number in asked)
    rows = DB.execute(f"SELECT {texts} FROM {loaded.table} LIMIT {LOOKED_AT}").fetchall()
    return {number: [row[place] for row in rows if row[place] is not None] for place, number in enumerate(asked)}


def _may_be(kind: str, values: list[str]) -> bool:
    return all(_COMPILED[kind].fullmatch(value) for value in values)


def _fitting(loaded: Loaded, asked: list[tuple[int, str]]) -> set[tuple[int, str]]:
    """Of these columns and types, those where all values are written so, and there is one at all."""
    fits: set[tuple[int, str]] = set()
    for start in range(0, len(asked), ASKED_AT_ONCE):
        part = asked[start : start + ASKED_AT_ONCE]
        tests = ", ".join(_test(loaded.text(number), kind) for number, kind in part)
        [row] = DB.execute(f"SELECT {tests} FROM {loaded.table}").fetchall()
        fits |= {pair for pair, is_so in zip(part, row, strict=True) if is_so}
    return fits


def _test(text: str, kind: str) -> str:
    padded = f" AND NOT regexp_full_match({text}, '{PADDED}')" if kind == "number" else ""
    castable = f" AND TRY_CAST({text} AS {_SQL_TYPES[kind]}) IS NOT NULL" if kind in ("date", "datetime") else ""
    return f"bool_and(regexp_full_match({text}, '{FORMS[kind]}'){padded}{castable})"


def _counts(loaded: Loaded) -> list[dict[str, int]]:
    """Of each column that is measured: how many values, how many gaps, and about how many different values."""
    texts = [loaded.text(number) for number in range(min(len(loaded.columns), MEASURED_COLUMNS))]
    asked = ", ".join(f"count({text}), approx_count_distinct({text})" for text in texts)
    [row] = DB.execute(f"SELECT {asked} FROM {loaded.table}").fetchall()
    return [
        {"count": count, "nulls": loaded.rows - count, "distinct": min(distinct, count)}
        for count, distinct in zip(row[::2], row[1::2], strict=True)
    ]


def _measure(loaded: Loaded, number: int, kind: str) -> dict[str, Any]:
    text = loaded.text(number)
    try:
        if kind in ("integer", "number", "decimal"):
            value = f"TRY_CAST({text} AS {'HUGEINT' if kind == 'integer' else 'DOUBLE'})"
            return _numbers(loaded, value, is_integer=kind == "integer")
        if kind in ("date", "datetime"):
            value = f"TRY_CAST({text} AS {_SQL_TYPES[kind]})"
            [(low, high)] = DB.execute(f"SELECT min({value}), max({value}) FROM {loaded.table}").fetchall()
            return {"minimum": _iso(low), "maximum": _iso(high)} if low is not None else {}
        return {"top": _top(loaded, text)} if kind in ("text", "boolean") else {}
    except duckdb.OutOfRangeException:  # figures that no number can hold, such as the variance of the largest ones
        return {}


def _numbers(loaded: Loaded, value: str, *, is_integer: bool) -> dict[str, Any]:
    source = f"(SELECT {value} AS v FROM {loaded.table}) WHERE isfinite(CAST(v AS DOUBLE))"
    [(low, high, mean, deviation, quartiles)] = DB.execute(
        f"SELECT min(v), max(v), avg(v), stddev_samp(CAST(v AS DOUBLE)), "
        f"quantile_cont(CAST(v AS DOUBLE), [0.25, 0.5, 0.75]) FROM {source}"
    ).fetchall()
    if low is None:
        return {}
    return {
        "minimum": _number(low), "maximum": _number(high), "mean": _number(mean), "deviation": _number(deviation),
        "quartiles": [_number(each) for each in quartiles], "bins": _bins(source, low, high, is_integer=is_integer),
    }  # fmt: skip


def _bins(source: str, low: Any, high: Any, *, is_integer: bool) -> list[list[Any]]:
    """[from, to, how many] of equally wide steps from the least to the greatest; few integers get a step each."""
    if is_integer and high - low < BINS:
        found = dict(DB.execute(f"SELECT CAST(v - {low} AS INTEGER), count(*) FROM {source} GROUP BY 1").fetchall())
        return [[_number(low + step), _number(low + step), found.get(step, 0)] for step in range(high - low + 1)]
    low, high = float(low), float(high)
    width = (high - low) / BINS
    if not width or not math.isfinite(width):
        return []
    step = f"least(CAST(floor((CAST(v AS DOUBLE) - {low!r}) / {width!r}) AS INTEGER), {BINS - 1})"
    found = dict(DB.execute(f"SELECT {step}, count(*) FROM {source} GROUP BY 1").fetchall())
    return [[low + width * step, low + width * (step + 1), found.get(step, 0)] for step in range(BINS)]


def _top(loaded: Loaded, text: str) -> list[list[Any]]:
    """[value, how often] of the most frequent; none where hardly any comes twice."""
    found = DB.execute(
        f"SELECT left({text}, {TOP_CHARACTERS}) AS value, count(*) AS times FROM {loaded.table} "
        f"WHERE {text} IS NOT NULL GROUP BY value ORDER BY times DESC, value LIMIT {TOP_VALUES + 1}"
    ).fetchall()
    says_something = len(found) <= TOP_VALUES or found[0][1] > 1
    return [[value, times] for value, times in found[:TOP_VALUES]] if says_something else []


def _head(loaded: Loaded) -> list[list[str | None]]:
    """The first rows, each value as text of at most CELL_CHARACTERS and one, by which its being cut is seen."""
    shown = range(min(len(loaded.columns), HEAD_COLUMNS))
    cells = ", ".join(f"left({loaded.text(number)}, {CELL_CHARACTERS + 1})" for number in shown)
    return [list(row) for row in DB.execute(f"SELECT {cells} FROM {loaded.table} LIMIT {HEAD_ROWS}").fetchall()]


def _number(value: Any) -> int | float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, int) and abs(value) < MAX_SAFE else float(value)


def _iso(value: Any) -> str | None:
    return value.isoformat() if value is not None else None
