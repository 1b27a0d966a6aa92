"""The records that a model of texts is asked: read from CSV, JSON lines or Parquet, within the child, and bounded.

In CSV `choices` is a JSON list in a cell; elsewhere it is a list. A `label` counts the choices from 0. What is not as the
task needs it is refused with its column and its record, counted from 1: a record that is left out in silence would change
the yardstick.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gongqi.governance.ethics.evaluate import MINIMUM_RECORDS, Unfit
from gongqi.governance.ethics.tasks import MULTIPLE_CHOICE, TextJob

MAXIMUM_RECORDS = 10_000  # a model that writes answers a few a second, and may take half an hour
PROMPT_CHARACTERS = 32_000  # more than the context that models are given here
ANSWER_CHARACTERS = 4_000  # of an answer, or a choice
GROUP_CHARACTERS = 64
MAX_CHOICES = 26  # as many as there are letters to call them by
LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Records:
    """The held-out records in the order of the file. `choices` and `labels`, or else `answers`, are empty, by the task;
    `groups` is the value of the subgroup's column."""

    prompts: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...]
    answers: tuple[str, ...]
    groups: tuple[str, ...] | None


def read_records(job: TextJob) -> Records:
    """All records of the data. Raises Unfit."""
    columns = [*job.columns.values(), *([job.subgroup] if job.subgroup else [])]
    rows: list[Mapping[str, Any]] = []
    try:
        for number, row in enumerate(READERS[job.form](Path(job.data), columns), start=1):
            if number > MAXIMUM_RECORDS:
                raise Unfit("ethics.data-too-large", maximum=MAXIMUM_RECORDS)
            if missing := next((name for name in columns if name not in row), None):
                raise Unfit("ethics.data-column-missing", column=missing[:64])
            rows.append(row)
    except (ValueError, csv.Error, RecursionError):
        raise Unfit("ethics.data-unreadable", form=job.form) from None
    if len(rows) < MINIMUM_RECORDS:
        raise Unfit("ethics.data-too-small", records=len(rows), minimum=MINIMUM_RECORDS)

    def texts(column: str, maximum: int) -> tuple[str, ...]:
        return tuple(_text(row[column], column, number, maximum) for number, row in enumerate(rows, start=1))

    groups = texts(job.subgroup, GROUP_CHARACTERS) if job.subgroup else None
    prompts = texts(job.columns["prompt"], PROMPT_CHARACTERS)
    if job.task != MULTIPLE_CHOICE:
        return Records(prompts, (), (), texts(job.columns["answer"], ANSWER_CHARACTERS), groups)
    column = job.columns["choices"]
    choices = tuple(_choices(row[column], column, number) for number, row in enumerate(rows, start=1))
    labels = [_label(row[job.columns["label"]], len(each)) for row, each in zip(rows, choices, strict=True)]
    if None in labels:
        raise Unfit("ethics.data-label-unfit", column=job.columns["label"][:64], row=labels.index(None) + 1)
    return Records(prompts, choices, tuple(each for each in labels if each is not None), (), groups)


def _csv(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(LINE_BYTES)
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, strict=True)


def _jsonl(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES + 1):
            if len(line) > LINE_BYTES:
                raise ValueError("a line is too long")
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("a line is no object")
            yield row


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    import duckdb

    place = "'" + str(path).replace("'", "''") + "'"
    try:
        described = database().execute(f"DESCRIBE SELECT * FROM read_parquet({place})").fetchall()
        names = [name for name in columns if name in {row[0] for row in described}]
        asked = ", ".join('"' + name.replace('"', '""') + '"' for name in names) or "1"
        found = database().execute(f"SELECT {asked} FROM read_parquet({place}) LIMIT {MAXIMUM_RECORDS + 1}").fetchall()
    except duckdb.OutOfMemoryException as error:
        raise MemoryError from error
    except duckdb.Error as error:
        raise ValueError(str(error)) from error
    yield from (dict(zip(names, row, strict=False)) for row in found)


READERS: Mapping[str, Callable[[Path, Sequence[str]], Iterator[Mapping[str, Any]]]] = {
    "csv": _csv, "jsonl": _jsonl, "parquet": _parquet,
}  # fmt: skip


@cache
def database() -> Any:
    """DuckDB, for Parquet: made before the child gives up its files, because it first looks at the machine."""
    import duckdb

    return duckdb.connect(
        ":memory:",
        config={
            "threads": 1, "memory_limit": "1GiB", "temp_directory": "", "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false", "allow_community_extensions": "false",
            "python_enable_replacements": "false",
        },
    )  # fmt: skip


def _text(cell: Any, column: str, row: int, maximum: int) -> str:
    """A text that is not empty; whole numbers are written out. Raises Unfit."""
    text = str(cell) if type(cell) is int else cell
    if not isinstance(text, str) or not text.strip():
        raise Unfit("ethics.data-text-missing", column=column[:64], row=row)
    if len(text) > maximum:
        raise Unfit("ethics.data-text-too-long", column=column[:64], row=row, maximum=maximum)
    return text


def _choices(cell: Any, column: str, row: int) -> tuple[str, ...]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            cell = None
    if not isinstance(cell, list) or not 2 <= len(cell) <= MAX_CHOICES:
        raise Unfit("ethics.data-choices-unfit", column=column[:64], row=row, maximum=MAX_CHOICES)
    choices = tuple(_text(each, column, row, ANSWER_CHARACTERS) for each in cell)
    if len(set(choices)) < len(choices):
        raise Unfit("ethics.data-choices-unfit", column=column[:64], row=row, maximum=MAX_CHOICES)
    return choices


def _label(cell: Any, count: int) -> int | None:
    if isinstance(cell, str) and cell.isascii() and cell.isdigit() and len(cell) <= 2:
        cell = int(cell)
    return cell if type(cell) is int and 0 <= cell < count else None
