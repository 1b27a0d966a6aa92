"""The columns of the tables in a revision: read in child processes, because a table is a stranger's file too.

A child holds the open file and nothing else (kernel/sandbox), and reads a bounded part of it (tabulator.py, columnar.py).
A file that is no table after all, or was too much for its child, has no columns; it stays a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.sandbox import Bounds, Spawner

FORMS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
MAX_TABLES = 100  # of one revision; more are shards of a few, and a description of each helps nobody
MEMORY_BYTES = 2 << 30
SECONDS = 30
WAIT_SECONDS = 120  # on a busy machine

HERE = Path(__file__).parent
TABULATOR, COLUMNAR = Spawner(HERE / "tabulator.py"), Spawner(HERE / "columnar.py")  # start with their first file


class StoredFile(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


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


def form_of(path: str) -> str | None:
    return FORMS.get(PurePosixPath(path).suffix.lower())


def read_tables(blobs: Blobs, files: Sequence[StoredFile]) -> tuple[Table, ...]:
    """The first MAX_TABLES tables among the files, in their order. Slow: never inside a transaction."""
    likely = [file for file in files if form_of(file.path)][:MAX_TABLES]
    found = (_read(blobs, file) for file in likely)
    return tuple(table for table in found if table is not None)


def _read(blobs: Blobs, file: StoredFile) -> Table | None:
    bounds = Bounds(cpu_seconds=SECONDS, memory_bytes=MEMORY_BYTES, processes=0)
    request = {"form": form_of(file.path), "size": file.size}
    with blobs.local(file.sha256) as place, place.open("rb") as content:
        reader = COLUMNAR if request["form"] == "parquet" else TABULATOR
        outcome = reader.ask(request, content, bounds=bounds, wait_seconds=WAIT_SECONDS)
    if outcome.ending != "done" or not outcome.answer["columns"]:
        return None
    columns = tuple(Column(name, kind) for name, kind in outcome.answer["columns"])
    return Table(file.path, columns, outcome.answer["rows"])
