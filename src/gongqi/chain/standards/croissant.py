"""A dataset as a Croissant 1.1 description: facts and the columns of its tables in, JSON-LD out; and theirs read back.

A file is a FileObject with its digest and an address that does not change; a table (CSV, JSON lines, Parquet) is also a
RecordSet, each column a Field that says where in which file it is found. A type is claimed only of a column that was read
to its end, because whoever loads the records is given that type or an error.

A donor's own `croissant.json` is read as a claim about the files beside it, and `compare` says where the two differ.

Source: Croissant format specification 1.1 (MLCommons, 2026-01-29), Croissant RAI 1.0, schema.org.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from gongqi.chain.standards.facts import Facts, FileOf, instant, listed
from gongqi.chain.standards.tables import Column, Table

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
MEDIA_TYPE = f'application/ld+json; profile="{CONFORMS_TO}"'
OWN_PATH = "croissant.json"  # where a donor's own description is looked for
MAX_FILES = 20_000

# The context of the specification, whose readers warn of any other.
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
}
FORMATS = {
    ".csv": "text/csv", ".json": "application/json", ".jsonl": "application/jsonlines", ".md": "text/markdown",
    ".ndjson": "application/jsonlines", ".parquet": "application/x-parquet", ".pdf": "application/pdf",
    ".png": "image/png", ".tsv": "text/tab-separated-values", ".txt": "text/plain", ".zip": "application/zip",
}  # fmt: skip
TYPES = {
    "integer": "sc:Integer", "number": "sc:Float", "boolean": "sc:Boolean", "date": "sc:Date", "text": "sc:Text",
}  # fmt: skip
