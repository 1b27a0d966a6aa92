"""How outcomes join a dataset. Pure thought: bytes of a table and records in, bytes of the next table out.

A dataset that takes outcomes back is a CSV table (RFC 4180, UTF-8, a header row) whose first column names the record
and whose last is the label; the columns between are features, all numbers.

Invariants
- A row that is there is never changed: a returned record under a known name is set aside, not overwritten.
- A returned record has exactly the table's features, each a finite number, and the label 0 or 1; else it is set aside.
- The same table and records give the same bytes, in whatever order the records came: rows are sorted by name.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gongqi.kernel.errors import Refused

MAX_TABLE_BYTES = 64 << 20  # larger data are for the data room, not for one CSV file
MAX_COLUMNS = 2_000
RECORD_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"  # nothing that a spreadsheet would take for a formula
ALREADY_THERE, COLUMNS_DIFFER, NOT_A_NUMBER = "already-there", "columns-differ", "not-a-number"


@dataclass(frozen=True, slots=True)
class Record:
    """One outcome: what the model was asked about, and what turned out to be true."""

    id: str
    record: str
    features: Mapping[str, float]
    label: int


@dataclass(frozen=True, slots=True)
class Table:
    """`columns`: the record's, the features', the label's. `rows` by name, the cells as they were written."""

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Extended:
    """The next table, which outcomes are in it, and why others are not."""

    table: Table
    added: tuple[str, ...]
    set_aside: Mapping[str, tuple[str, ...]]


def read_table(data: bytes) -> Table:
    """A table from its bytes. Raises Refused scenarios.table-malformed."""
    try:
        lines = list(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _malformed("CSV") from error
    header = tuple(lines[0]) if lines else ()
    if not 3 <= len(header) <= MAX_COLUMNS or len(set(header)) != len(header):
        raise _malformed("columns")
    rows = {line[0]: tuple(line) for line in lines[1:] if len(line) == len(header)}
    if len(rows) != len(lines) - 1:
        raise _malformed("rows")
    return Table(header, rows)


def write_table(table: Table) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows[name] for name in sorted(table.rows))
    return text.getvalue().encode()


def extend(table: Table, records: Iterable[Record]) -> Extended:
    """The table with these records added, as far as they fit; of two with one name, the one reported first."""
    rows, added = dict(table.rows), []
    aside: dict[str, list[str]] = {}
    for record in sorted(records, key=lambda each: each.id):
        objection = _objection(table.columns, rows, record)
        if objection:
            aside.setdefault(objection, []).append(record.id)
            continue
        rows[record.record] = _row(table.columns, record)
        added.append(record.id)
    return Extended(Table(table.columns, rows), tuple(added), {why: tuple(ids) for why, ids in aside.items()})


def _objection(columns: tuple[str, ...], rows: Mapping[str, tuple[str, ...]], record: Record) -> str | None:
    if record.record in rows:
        return ALREADY_THERE
    if set(record.features) != set(columns[1:-1]):
        return COLUMNS_DIFFER
    if record.label not in (0, 1) or not all(map(math.isfinite, record.features.values())):
        return NOT_A_NUMBER
    return None


def _row(columns: tuple[str, ...], record: Record) -> tuple[str, ...]:
    # repr is the shortest text that reads back as the same number.
    values = (repr(float(record.features[name])) for name in columns[1:-1])
    return (record.record, *values, str(record.label))


def _malformed(what: str) -> Refused:
    return Refused("scenarios.table-malformed", what=what)
