"""What reads a Parquet file for its columns, as tabulator.py reads a table of text: in a child of its own process.

Its own, because what it imports takes 80 MB, which a foundation without Parquet files need not hold. Only the file's
footer is read. What a nested or a decimal column holds has no name in a description, so such columns are left out.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
import pyarrow.types as are

from gongqi.chain.standards.tabulator import WITH_GAPS, are_sound

FOOTER_BYTES = 16 << 20  # of names and statistics
KINDS = (
    (are.is_integer, "integer"), (are.is_floating, "number"), (are.is_boolean, "boolean"), (are.is_date, "date"),
    (are.is_string, "text"), (are.is_large_string, "text"),
)  # fmt: skip


def serve(_request: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
    """The columns (name, type) and rows; `columns` is empty when the file is not Parquet after all."""
    try:
        table = pyarrow.parquet.ParquetFile(file, thrift_string_size_limit=FOOTER_BYTES)
        schema, about = table.schema_arrow, table.metadata
    except (pyarrow.ArrowException, OSError, ValueError):
        return {"columns": [], "rows": None}
    gaps = _with_nulls(about)
    columns = []
    for field in schema:
        kind = next((name for fits, name in KINDS if fits(field.type)), None)
        if kind is not None:
            columns.append((field.name, WITH_GAPS.get(kind, kind) if field.name in gaps else kind))
    return {"columns": columns if are_sound([name for name, _ in columns]) else [], "rows": about.num_rows}


def _with_nulls(about: Any) -> set[str]:
    """The columns that have nulls, or do not say that they have none."""
    found = set()
    for group in range(about.num_row_groups):
        row_group = about.row_group(group)
        for number in range(about.num_columns):
            column = row_group.column(number)
            known = column.statistics
            if known is None or not known.has_null_count or known.null_count:
                found.add(column.path_in_schema)
    return found
