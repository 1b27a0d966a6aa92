"""A dataset as a Croissant 1.1 description: facts and the columns of its tables in, JSON-LD out; and theirs read back.

A file is a FileObject with its digest and an address that does not change; a table (CSV, JSON lines, Parquet) is also a
RecordSet, each column a Field that says where in which file it is found. A type is claimed only of a column that was read
to its end, because whoever loads the records is given that type or an error.

A donor's own `croissant.json` is read as a claim about the files beside it, and `compare` says where the two differ.

Source: Croissant format specification 1.1 (MLCommons, 2026-01-29), Croissant RAI 1.0, schema.org.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import orjson

from gongqi.chain.standards.facts import Facts, FileOf, instant, listed
from gongqi.chain.standards.tables import Table

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
MEDIA_TYPE = f'application/ld+json; profile="{CONFORMS_TO}"'
OWN_PATH = "croissant.json"  # where a donor's own description is looked for
MAX_FILES = 20_000
OWN_LIMIT_BYTES = 4 << 20
MAX_FINDINGS = 50  # of one description: a person reads the first few
MAX_NAME = 200

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


# --- a donor's own ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """Where a description and the files differ. `code`: malformed, absent, changed, resized or no-column."""

    code: str
    path: str
    name: str = ""


def compare(raw: bytes, files: Iterable[FileOf], tables: Iterable[Table]) -> tuple[Finding, ...]:
    """Where a description that came with the files does not fit them; the first MAX_FINDINGS.

    Of a file object only what it claims is looked at: its digest, its size, the columns that fields take from it. What
    is described but fetched from elsewhere is not ours to judge.
    """
    try:
        said = orjson.loads(raw)
        objects = {str(each["@id"]): each for each in _rows(said, "distribution") if "@id" in each}
        fields = [field for each in _rows(said, "recordSet") for field in _rows(each, "field")]
    except (orjson.JSONDecodeError, TypeError):
        return (Finding("malformed", OWN_PATH),)
    by_path = {file.path: file for file in files}
    columns = {table.path: {column.name for column in table.columns} for table in tables}
    found = [finding for each in objects.values() if (finding := _of_object(each, by_path))]
    for field in fields:
        source = field.get("source")
        object_, extract = (
            (source.get(name) for name in ("fileObject", "extract")) if isinstance(source, dict) else (0, 0)
        )
        if not isinstance(object_, dict) or not isinstance(extract, dict) or "column" not in extract:
            continue
        path, column = _path_of(objects.get(str(object_.get("@id"))) or {}), str(extract["column"])
        if path in columns and column not in columns[path]:
            found.append(Finding("no-column", path, column[:MAX_NAME]))
    return tuple(found[:MAX_FINDINGS])


def _of_object(said: Mapping[str, Any], by_path: Mapping[str, FileOf]) -> Finding | None:
    """What is wrong with one file object that claims to be a file beside the description."""
    path = _path_of(said)
    if path is None:
        return None
    file = by_path.get(path)
    if file is None:
        return Finding("absent", path[:MAX_NAME])
    if str(said.get("sha256", file.sha256)).lower() != file.sha256:
        return Finding("changed", path)
    size = re.fullmatch(r"([0-9]{1,18}) *B?", str(said.get("contentSize", "")))
    return Finding("resized", path) if size and int(size[1]) != file.size else None


def _path_of(said: Mapping[str, Any]) -> str | None:
    """The path of a file object that lies beside the description: an address without a host; None for any other."""
    address = str(said.get("contentUrl", ""))
    if not address or "://" in address or said.get("containedIn"):
        return None
    return unquote(address.removeprefix("./"))


def _rows(said: Any, name: str) -> list[dict[str, Any]]:
    """The objects under `name`, which JSON-LD may also write as a single one. Raises TypeError for anything else."""
    if not isinstance(said, dict):
        raise TypeError(name)
    value = said.get(name, [])
    rows = value if isinstance(value, list) else [value]
    if not all(isinstance(row, dict) for row in rows):
        raise TypeError(name)
    return rows
