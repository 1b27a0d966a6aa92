"""The tables in a revision: described and compared by DuckDB, in child processes, because a table is a stranger's file too.

A child holds the open files and nothing else (kernel/sandbox), and reads a bounded part of them: all of a table of usual
length; of a longer one, or of one that was too much as a whole, the first rows. A file that is no table after all is said
to be none, one that was too much for its child to be too much; it stays a file. What is found depends on the bytes, the
form that the name gives them, and RECIPE, so it is found once (readings.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from gongqi.kernel.blobs import Blobs
from gongqi.kernel.errors import Unavailable
from gongqi.kernel.sandbox import Bounds, Spawner

RECIPE = 1  # goes up when the same bytes would be described otherwise
SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".csv.gz": "csv.gzip", ".tsv.gz": "tsv.gzip", ".jsonl.gz": "jsonl.gzip", ".ndjson.gz": "jsonl.gzip",
}  # fmt: skip
MAX_TABLES = 100  # of one revision; more are shards of a few, and a description of each helps nobody
MEMORY_BYTES = 3 << 30  # address space: DuckDB's own bound is a third of it
SECONDS = 60
WHOLE_BYTES, PACKED_BYTES = 64 << 20, 8 << 20  # of what is longer, the first rows stand for the rest
ALL_CELLS, FIRST_CELLS = 8_000_000, 1_000_000  # some fifteen seconds, some two
WAIT_SECONDS = 240  # on a busy machine
RETRY_SECONDS = 60
WHOLE_BYTES, PACKED_BYTES = 64 << 20, 8 << 20  # of what is longer, the first rows stand for the rest
ALL_CELLS, FIRST_CELLS = 8_000_000, 1_000_000  # some fifteen seconds, some two
TOO_MUCH, NO_TABLE = "too-much", "no-table"

CHILD = Spawner(Path(__file__).with_name("child.py"))  # starts with the first table


def form_of(path: str) -> str | None:
    """What a file is read as, by its name: None for what is no table."""
    lowered = path.lower()
    return next((form for suffix, form in SUFFIXES.items() if lowered.endswith(suffix)), None)


def describe(blobs: Blobs, sha256: str, form: str) -> dict[str, Any]:
    """The columns, figures and first rows of one table (profile.py), or {"flaw": …}. Slow: never inside a transaction.

    Raises Unavailable when the machine was too busy to say.
    """
    return _ask(blobs, [(sha256, form)])


def compare(blobs: Blobs, before: tuple[str, str], after: tuple[str, str]) -> dict[str, Any]:
    """What changed from one table, (SHA-256, form), to another (difference.py), or {"flaw": …}. As `describe`."""
    return _ask(blobs, [before, after])


def _ask(blobs: Blobs, tables: Sequence[tuple[str, str]]) -> dict[str, Any]:
    bounds = Bounds(cpu_seconds=SECONDS, memory_bytes=MEMORY_BYTES, processes=0)
    with ExitStack() as held:
        files = [held.enter_context(held.enter_context(blobs.local(sha256)).open("rb")) for sha256, _ in tables]
        for cells in (ALL_CELLS, FIRST_CELLS):
            if cells == ALL_CELLS and any(_is_long(file, form) for file, (_, form) in zip(files, tables, strict=True)):
                continue
            request = {"forms": [form for _, form in tables], "cells": cells}
            outcome = CHILD.ask(request, *files, bounds=bounds, wait_seconds=WAIT_SECONDS)
            if outcome.ending == "late":
                raise Unavailable("standards.tables-late", retry_after_seconds=RETRY_SECONDS)
            if outcome.ending == "done":
                return _storable(outcome.answer) or {"flaw": NO_TABLE}
    return {"flaw": TOO_MUCH}


def _is_long(file: BinaryIO, form: str) -> bool:
    return os.fstat(file.fileno()).st_size > (PACKED_BYTES if form.endswith(".gzip") else WHOLE_BYTES)


def _storable(value: Any) -> Any:
    """The value without the character U+0000, which a cell may hold and a database may not."""
    if isinstance(value, dict):
        return {_storable(key): _storable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return value.replace("\0", "") if isinstance(value, str) else value
