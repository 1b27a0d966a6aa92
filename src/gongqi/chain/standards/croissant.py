"""A dataset as a Croissant 1.1 description: facts and the columns of its tables in, JSON-LD out.

A file is a FileObject with its digest and an address that does not change; a table (CSV, JSON lines, Parquet) is also a
RecordSet, each column a Field that says where in which file it is found. A type is claimed only of a column that was read
to its end, because whoever loads the records is given that type or an error. A donor's own is read in donated.py.

Source: Croissant format specification 1.1 (MLCommons, 2026-01-29), Croissant RAI 1.0, schema.org.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from gongqi.chain.standards.claims import Table
from gongqi.chain.standards.facts import Facts, FileOf, instant, listed

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
MEDIA_TYPE = f'application/ld+json; profile="{CONFORMS_TO}"'
MAX_FILES = 20_000

# The context of the specification, whose readers warn of any other.
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{
        name: f"cr:{name}"
        for name in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject",
            "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
            "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
            "separator", "source", "subField", "transform",
        )
    },
}  # fmt: skip
FORMATS = {
    ".csv": "text/csv", ".json": "application/json", ".jsonl": "application/jsonlines", ".md": "text/markdown",
    ".ndjson": "application/jsonlines", ".parquet": "application/x-parquet", ".pdf": "application/pdf",
    ".png": "image/png", ".tsv": "text/tab-separated-values", ".txt": "text/plain", ".zip": "application/zip",
}  # fmt: skip
TYPES = {
    "integer": "sc:Integer", "number": "sc:Float", "boolean": "sc:Boolean", "date": "sc:Date", "text": "sc:Text",
}  # fmt: skip


def write(facts: Facts, tables: tuple[Table, ...]) -> dict[str, Any]:
    """The description of a dataset, as plain JSON."""
    files = listed(facts, MAX_FILES)
    keys = dict(zip((file.path for file in files), _ids(file.path for file in files), strict=True))
    described = [table for table in tables if table.path in keys]
    record_sets = _ids(table.path.removesuffix(PurePosixPath(table.path).suffix) for table in described)
    made: dict[str, Any] = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": facts.slug,
        "alternateName": [title for title in facts.titles.values() if title],
        "description": facts.said("summary") or facts.title,
        "url": facts.page,
        "version": facts.name,
        "datePublished": instant(facts.published_at),
        "dateCreated": instant(facts.created_at),
        "license": _license(facts),
        "creator": {"@type": "sc:Organization", "name": facts.org_name},
        "publisher": {"@type": "sc:Organization", "name": facts.foundation, "url": facts.origin},
        "citeAs": _citation(facts),
        "inLanguage": list(facts.card.get("languages") or ()),
        "keywords": list(facts.card.get("tasks") or ()),
        "isLiveDataset": False,
        "rai:dataCollection": facts.said("provenance"),
        "rai:dataLimitations": facts.said("limitations"),
        "rai:dataUseCases": facts.said("intended_use"),
        "distribution": [_file_object(facts, file, keys[file.path]) for file in files],
        "recordSet": [
            _record_set(table, key, keys[table.path]) for table, key in zip(described, record_sets, strict=True)
        ],
    }
    return {name: value for name, value in made.items() if value not in (None, [], "")}


def _license(facts: Facts) -> str | None:
    """A licence as its address in the SPDX list, where it is one licence; else the expression, else what was claimed."""
    if facts.license and re.fullmatch(r"[A-Za-z0-9.-]+", facts.license):
        return f"https://spdx.org/licenses/{facts.license}"
    return facts.license or facts.card.get("license")


def _citation(facts: Facts) -> str:
    """As the card asks to be cited, or else as what it is."""
    asked = facts.card.get("other", {}).get("citation")
    if isinstance(asked, str) and asked.strip():
        return asked.strip()
    return f"{facts.org_name}: {facts.title}, {facts.name}. {facts.foundation}, {facts.published_at.year}. {facts.page}"


def _file_object(facts: Facts, file: FileOf, key: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": key,
        "name": file.path,
        "contentUrl": facts.url_of(file.path),
        "contentSize": f"{file.size} B",
        "encodingFormat": FORMATS.get(PurePosixPath(file.path).suffix.lower(), "application/octet-stream"),
        "sha256": file.sha256,
    }


def _record_set(table: Table, key: str, file: str) -> dict[str, Any]:
    rows = f", {table.rows} rows" if table.rows is not None else ""
    return {
        "@type": "cr:RecordSet",
        "@id": key,
        "name": key,
        "description": f"The table {table.path}{rows}.",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{key}/{name}",
                "name": column.name,
                "dataType": TYPES[column.type],
                "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
            }
            for column, name in zip(table.columns, _ids(each.name for each in table.columns), strict=True)
        ],
    }


def _ids(names: Iterable[str]) -> list[str]:
    """An id for each name, all different: readers take no white space in an id, however it is written."""
    taken: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"[\s%#?/]+", "-", name)
        free = (plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3)))
        taken[next(each for each in free if each not in taken)] = None
    return list(taken)
