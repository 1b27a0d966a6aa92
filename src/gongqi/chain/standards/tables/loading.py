"""A file as a table of DuckDB, within a child: CSV, TSV, JSON lines, Parquet, the first three also packed by gzip.

What a stranger named a column never enters SQL: columns are called `c0`, `c1`, …, and their names stay in Python. Text
is loaded as text and JSON as JSON, and what a column holds is found out afterwards (profile.py), so that `007` stays what
it is. A bounded number of cells is loaded: a longer table is known by its first rows, and `is_whole` says so.

DuckDB opens nothing but the files that the child holds, loads no extension and starts no thread.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import duckdb

MAX_COLUMNS = 2_000
MAX_NAME = 200  # characters of a column's name
LINE_BYTES = 1 << 20
CELLS_OF_A_LINE = 20  # taken to be in a line of JSON, before its keys are known
HEADER_BYTES = 1 << 20
TEXT_CHARACTERS = 1_000  # of a nested value, which is shown and not measured
MEMORY = "1GiB"  # of DuckDB's own; the child's bound is above it
_DELIMITERS = ",;\t|"
_PARQUET = {  # what DuckDB calls a column → what we do
    "BOOLEAN": "boolean", "DATE": "date", "VARCHAR": "text", "UUID": "text", "FLOAT": "number", "DOUBLE": "number",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), "integer"),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"), "integer"),
}  # fmt: skip


# In memory, and empty: made before there is a child, because DuckDB first looks at the machine, which no child may. It has
# no thread of its own, so each child has a whole copy.
DB = duckdb.connect(
    ":memory:",
    config={
        "threads": 1, "async_threads": 0, "memory_limit": MEMORY, "temp_directory": "",
        "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
        "allow_community_extensions": "false", "python_enable_replacements": "false",
    },
)  # fmt: skip


class NoTableError(Exception):
    """The file is no table, whatever its name says."""


@dataclass(frozen=True, slots=True)
class Column:
    """`kind`: what the file itself says the column holds; "" for text, which says nothing, "json" for JSON."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Table `table` holds the first `rows` rows of the file, all of them if `is_whole`; `total` is how many there are,
    where that is known. `delimiter` of a CSV file, else empty."""

    table: str
    columns: tuple[Column, ...]
    rows: int
    is_whole: bool
    total: int | None
    delimiter: str = ""

    def text(self, number: int) -> str:
        """The value of a column as text, in SQL."""
        kind = self.columns[number].kind
        if kind == "json":
            return f"(c{number}->>'$')"
        return f"c{number}" if kind in ("", "text", "nested") else f"CAST(c{number} AS VARCHAR)"


def confine(files: Sequence[BinaryIO]) -> None:
    """Let DB reach these files and nothing else, for good."""
    DB.execute(f"SET allowed_paths = [{', '.join(_quoted(_place(file)) for file in files)}]")
    DB.execute("SET enable_external_access = false")
    DB.execute("SET lock_configuration = true")


def load(table: str, form: str, file: BinaryIO, *, cells: int) -> Loaded:
    """The first rows of a file, `cells` values at most. Raises NoTableError, MemoryError."""
    form, _, packing = form.partition(".")
    try:
        return {"csv": _csv, "tsv": _csv, "jsonl": _jsonl, "parquet": _parquet}[form](table, file, packing, cells)
    except duckdb.OutOfMemoryException as error:
        raise MemoryError from error
    except duckdb.Error as error:
        raise NoTableError(str(error)[:500]) from error


def _csv(table: str, file: BinaryIO, packing: str, cells: int) -> Loaded:
    header, delimiter = _header(file, packing)
    columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(header)))
    source = (
        f"read_csv({_quoted(_place(file))}, auto_detect=false, columns={{{columns}}}, header=true, "
        f"delim={_quoted(delimiter)}, quote='\"', escape='\"', nullstr='', strict_mode=true, null_padding=false, "
        f"max_line_size={LINE_BYTES}, buffer_size={4 * LINE_BYTES}, compression={_quoted(packing or 'none')})"
    )
    rows, is_whole = _fill(table, f"SELECT * FROM {source}", cells // len(header))
    return Loaded(
        table, tuple(Column(name, "") for name in header), rows, is_whole, rows if is_whole else None, delimiter
    )


def _jsonl(table: str, file: BinaryIO, packing: str, cells: int) -> Loaded:
    source = (
        f"read_ndjson_objects({_quoted(_place(file))}, compression={_quoted(packing or 'none')}, "
        f"maximum_object_size={LINE_BYTES}, ignore_errors=false)"
    )
    lines = f"{table}_lines"
    rows, is_whole = _fill(lines, f"SELECT json AS j FROM {source}", cells // CELLS_OF_A_LINE)
    if DB.execute(f"SELECT count(*) FROM {lines} WHERE json_type(j) <> 'OBJECT'").fetchall() != [(0,)]:
        raise NoTableError("a line is no object")
    keys = DB.execute(
        f"SELECT k, min(r * {MAX_COLUMNS} + p) AS place FROM (SELECT rowid AS r, unnest(json_keys(j)) AS k, "
        f"generate_subscripts(json_keys(j), 1) AS p FROM {lines}) GROUP BY k ORDER BY place LIMIT {MAX_COLUMNS + 1}"
    ).fetchall()
    names = _sound([key for key, _ in keys])
    pointers = ["/" + name.replace("~", "~0").replace("/", "~1") for name in names]
    taken = ", ".join(f"json_extract(j, ?) AS c{number}" for number in range(len(names)))
    DB.execute(f"CREATE TABLE {table} AS SELECT {taken} FROM {lines}", pointers)
    DB.execute(f"DROP TABLE {lines}")
    return Loaded(table, tuple(Column(name, "json") for name in names), rows, is_whole, rows if is_whole else None)


def _parquet(table: str, file: BinaryIO, _packing: str, cells: int) -> Loaded:
    place = _quoted(_place(file))
    described = DB.execute(f"DESCRIBE SELECT * FROM read_parquet({place})").fetchall()
    names = _sound([row[0] for row in described])
    kinds = [_kind(row[1]) for row in described]
    called = ", ".join(f"c{number}" for number in range(len(names)))
    taken = ", ".join(_taken(number, kind) for number, kind in enumerate(kinds))
    query = f"SELECT {taken} FROM read_parquet({place}) AS t({called})"
    rows, is_whole = _fill(table, query, cells // len(names))
    [(total,)] = DB.execute(f"SELECT sum(num_rows) FROM parquet_file_metadata({place})").fetchall()
    columns = tuple(Column(name, kind) for name, kind in zip(names, kinds, strict=True))
    return Loaded(table, columns, rows, is_whole, int(total))


def _kind(declared: str) -> str:
    plain = declared.partition("(")[0]
    if plain == "DECIMAL":
        return "decimal"
    if plain.startswith("TIMESTAMP"):
        return "datetime"
    if plain in ("ENUM", "TIME", "TIME WITH TIME ZONE", "INTERVAL"):
        return "text" if plain == "ENUM" else "nested"
    return _PARQUET.get(declared, "nested")


def _taken(number: int, kind: str) -> str:
    """A value that cannot be measured is kept as the beginning of its text."""
    if kind == "nested":
        return f"left(CAST(c{number} AS VARCHAR), {TEXT_CHARACTERS}) AS c{number}"
    return f"CAST(c{number} AS VARCHAR) AS c{number}" if kind == "text" else f"c{number}"


def _fill(table: str, query: str, rows: int) -> tuple[int, bool]:
    """Make `table` of the first `rows` rows of `query`: how many they are, and whether those are all."""
    DB.execute(f"CREATE TABLE {table} AS {query} LIMIT {rows + 1}")
    [(found,)] = DB.execute(f"SELECT count(*) FROM {table}").fetchall()
    if found > rows:
        DB.execute(f"DELETE FROM {table} WHERE rowid >= {rows}")
    return min(found, rows), found <= rows


def _header(file: BinaryIO, packing: str) -> tuple[list[str], str]:
    """The names in the first line, and the delimiter that divides it into most."""
    file.seek(0)
    try:
        plain: Any = gzip.GzipFile(fileobj=file) if packing else file
        begun = codecs.getincrementaldecoder("utf-8-sig")().decode(plain.read(HEADER_BYTES))
    except (OSError, EOFError, ValueError) as error:
        raise NoTableError(str(error)) from error
    first = "".join(itertools.islice(io.StringIO(begun), 1))
    delimiter = max(_DELIMITERS, key=lambda each: len(_fields(begun, each)) if each in first else 0)
    return _sound(_fields(begun, delimiter)), delimiter


def _fields(text: str, delimiter: str) -> list[str]:
    csv.field_size_limit(LINE_BYTES)
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _sound(names: list[str]) -> list[str]:
    """The names themselves. Raises NoTableError when they cannot be those of a table's columns."""
    if not names or len(set(names)) < len(names) or len(names) > MAX_COLUMNS:
        raise NoTableError("the names are none, the same or too many")
    if not all(0 < len(name) <= MAX_NAME and "\0" not in name for name in names):
        raise NoTableError("a name is empty, too long or none that a database can hold")
    return names


def _place(file: BinaryIO) -> str:
    return f"/dev/fd/{file.fileno()}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
