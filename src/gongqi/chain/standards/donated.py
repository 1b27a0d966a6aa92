"""A description that came with the files (Croissant 1.0 or 1.1): what it says, read once, and where the files differ.

It is read as its donor's claim. `read` keeps a bounded part of it, names what its own form would refuse, and knows no
files; `differences` then holds it against the files and tables beside it. What is described but fetched from elsewhere
is not ours to judge.

Source: Croissant format specification 1.0 and 1.1 (MLCommons), Croissant RAI 1.0; the errors of mlcroissant 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

import orjson

PATHS = ("croissant.json", "metadata.json")  # where a donor's own description is looked for, in this order
DESCRIPTION = "croissant"  # the form that such a file is read in
LIMIT_BYTES = 4 << 20
MAX_FLAWS = 50  # of one description: a person reads the first few
MAX_OBJECTS = 5_000
MAX_FIELDS = 5_000
MAX_RAI = 40
MAX_NAME = 200
MAX_TEXT = 2_000
VERSIONS = ("1.0", "1.1")
MALFORMED, NONE = "malformed", "no-description"

_TYPES = {
    "Integer": "integer", "Float": "number", "Number": "number", "Boolean": "boolean", "Date": "date",
    "DateTime": "datetime", "Text": "text", "URL": "text",
}  # fmt: skip
_FITS = {  # a type that is claimed → what the column may hold
    "integer": {"integer"}, "number": {"integer", "number", "decimal"}, "boolean": {"boolean"},
    "date": {"date", "datetime"}, "datetime": {"date", "datetime"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a description. `code`: malformed, version, lacks, no-object of itself; absent, changed, resized,
    no-column, retyped beside the files."""

    code: str
    path: str
    name: str = ""


def read(raw: bytes) -> dict[str, Any]:
    """What a description says, as plain JSON; {"flaw": …} when it is none."""
    try:
        said = orjson.loads(raw)
        if (
            not isinstance(said, dict)
            or "croissant" not in str(said.get("conformsTo", said.get("dct:conformsTo"))).lower()
        ):
            return {"flaw": NONE}
        objects, sets, sources, flaws = _distribution(said)
        fields, wrong = _fields(said, sources)
    except (orjson.JSONDecodeError, TypeError, RecursionError):
        return {"flaw": MALFORMED}
    version = str(said.get("conformsTo", said.get("dct:conformsTo"))).rstrip("/").rpartition("/")[2][:20]
    own = [["version", version]] if version not in VERSIONS else []
    own += [["lacks", name] for name in ("name", "description", "license", "url") if not _words(said.get(name))]
    return {
        "version": version, "name": _words(said.get("name")), "description": _words(said.get("description")),
        "license": _listed(said.get("license")), "cite": _words(said.get("citeAs", said.get("citation"))),
        "creators": _listed(said.get("creator")), "published": _words(said.get("datePublished")),
        "rai": _rai(said),
        "objects": objects, "sets": sets, "fields": fields, "flaws": [*own, *flaws, *wrong][:MAX_FLAWS],
    }  # fmt: skip


def differences(
    path: str, said: Mapping[str, Any], files: Iterable[Any], columns: Mapping[str, Mapping[str, str]]
) -> tuple[Finding, ...]:
    """Where the description at `path` is wrong of itself, and where it does not fit the files (path, sha256, size) and the
    columns of tables: path → name → type, "" where no value says of which; the first MAX_FLAWS."""
    if "flaw" in said:
        return (Finding(said["flaw"], path),)
    found = [Finding(code, path, name) for code, name in said["flaws"]]
    by_path = {file.path: file for file in files}
    found += [finding for each in said["objects"] if (finding := _of_object(each, by_path))]
    for field in said["fields"]:
        for table in _tables(said, field, columns):
            held = columns[table].get(field["column"])
            if held is None:
                found.append(Finding("no-column", table, field["column"]))
            elif held and held not in _FITS.get(field["type"], {held}):
                found.append(Finding("retyped", table, field["column"]))
    return tuple(found[:MAX_FLAWS])


def words_on(said: Mapping[str, Any], path: str, columns: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """By column of the table at `path`: what the description says of it, `description` and `type`."""
    return {
        field["column"]: {"description": field["description"], "type": field["type"]}
        for field in said.get("fields", ())
        if _tables(said, field, {path: columns})
    }


def _rai(said: Mapping[str, Any]) -> list[list[str]]:
    """[name, words] of what is said for responsible use, in the order in which it is."""
    named = (
        (name.removeprefix("rai:")[:MAX_NAME], _words(value)) for name, value in said.items() if name.startswith("rai:")
    )
    return [[name, words] for name, words in named if words][:MAX_RAI]


def _of_object(said: Mapping[str, Any], by_path: Mapping[str, Any]) -> Finding | None:
    file = by_path.get(said["path"])
    if file is None:
        return Finding("absent", said["path"])
    if said["sha256"] and said["sha256"] != file.sha256:
        return Finding("changed", said["path"])
    return Finding("resized", said["path"]) if said["size"] not in (None, file.size) else None


def _tables(said: Mapping[str, Any], field: Mapping[str, Any], columns: Mapping[str, Any]) -> list[str]:
    """The tables that a field takes its column from."""
    if field["path"]:
        return [field["path"]] if field["path"] in columns else []
    patterns = said["sets"].get(field["set"], ())
    return [path for path in columns if any(fnmatchcase(path, pattern) for pattern in patterns)]


def _distribution(
    said: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, list[str]], dict[str, str | None], list[list[str]]]:
    """The file objects beside the description, the patterns of its sets by id, the path of every object or set by id
    (None where it lies elsewhere), and what they lack."""
    objects: list[dict[str, Any]] = []
    sets: dict[str, list[str]] = {}
    paths: dict[str, str | None] = {}
    flaws: list[list[str]] = []
    for each in _rows(said, "distribution")[:MAX_OBJECTS]:
        key, kind = str(each.get("@id", each.get("name", "")))[:MAX_NAME], str(each.get("@type", "")).rpartition(":")[2]
        if not each.get("encodingFormat"):
            flaws.append(["lacks", f"{key}: encodingFormat"])
        if kind == "FileSet":
            sets[key] = (
                [] if each.get("containedIn") and not _is_repository(said, each) else _listed(each.get("includes"))
            )
            paths[key] = None
            continue
        path = paths[key] = _path_of(each)
        if not each.get("sha256") and not each.get("md5") and not each.get("containedIn") and not _is_git(each):
            flaws.append(["lacks", f"{key}: sha256"])
        if path is not None:
            size = re.fullmatch(r"([0-9]{1,18}) *B?", str(each.get("contentSize", "")))
            objects.append(
                {
                    "path": path,
                    "sha256": str(each.get("sha256", "")).lower()[:64],
                    "size": int(size[1]) if size else None,
                }
            )
    return objects, sets, paths, flaws


def _fields(said: Mapping[str, Any], sources: Mapping[str, str | None]) -> tuple[list[dict[str, str]], list[list[str]]]:
    """The fields that are columns of files or sets, and what is wrong with any."""
    found: list[dict[str, str]] = []
    flaws: list[list[str]] = []
    rows = [field for each in _rows(said, "recordSet") for field in _rows(each, "field")]
    for field in rows[:MAX_FIELDS]:
        key = str(field.get("@id", field.get("name", "")))[:MAX_NAME]
        source = field.get("source")
        if not field.get("dataType") and not field.get("subField") and not field.get("parentField"):
            flaws.append(["lacks", f"{key}: dataType"])
        if not isinstance(source, dict):
            continue
        of, extract = source.get("fileObject", source.get("fileSet")), source.get("extract")
        if not isinstance(of, dict) or not isinstance(extract, dict) or "column" not in extract:
            continue
        called = str(of.get("@id", ""))[:MAX_NAME]
        if called not in sources:
            flaws.append(["no-object", called])
            continue
        found.append(
            {
                "path": sources[called] or "", "set": "" if sources[called] else called,
                "column": str(extract["column"])[:MAX_NAME], "description": _words(field.get("description")),
                "type": _type(field.get("dataType")),
            }
        )  # fmt: skip
    return found, flaws


def _path_of(said: Mapping[str, Any]) -> str | None:
    """The path of a file object that lies beside the description: an address without a host; None for any other."""
    address = str(said.get("contentUrl", ""))
    if not address or "://" in address or said.get("containedIn"):
        return None
    return unquote(address.removeprefix("./"))[:1024]


def _is_git(said: Mapping[str, Any]) -> bool:
    return str(said.get("encodingFormat", "")).startswith("git+")


def _is_repository(said: Mapping[str, Any], inside: Mapping[str, Any]) -> bool:
    """Whether a set lies in the repository that the files came from, and so beside the description."""
    of = inside.get("containedIn")
    key = of.get("@id") if isinstance(of, dict) else of
    return any(each.get("@id") == key and _is_git(each) for each in _rows(said, "distribution"))


def _type(said: Any) -> str:
    """Ours for the first type that is claimed; empty for one that no column of ours could contradict."""
    kinds = said if isinstance(said, list) else [said]
    names = [re.split(r"[:/#]", str(kind))[-1] for kind in kinds]
    name = re.sub(r"^U?Int[0-9]+$", "Integer", re.sub(r"^Float[0-9]+$", "Float", names[0])) if names else ""
    return _TYPES.get(name, "")


def _rows(said: Any, name: str) -> list[dict[str, Any]]:
    """The objects under `name`, which JSON-LD may also write as a single one. Raises TypeError for anything else."""
    value = said.get(name, []) if isinstance(said, dict) else None
    rows: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(row, dict) for row in rows):
        raise TypeError(name)
    return rows


def _words(value: Any) -> str:
    """Text, or text by language, as one text that is not too long; the NUL that no database holds is left out."""
    if isinstance(value, dict):
        value = value.get("@value", value.get("en", next(iter(value.values()), "")))
    if isinstance(value, list):
        value = "; ".join(filter(None, map(_words, value)))
    return str(value).replace("\0", "").strip()[:MAX_TEXT] if isinstance(value, str | int | float) else ""


def _listed(value: Any) -> list[str]:
    """Each of several, by its name or address where it is an object."""
    values = value if isinstance(value, list) else [value]
    named = [each.get("name", each.get("url", each.get("@id"))) if isinstance(each, dict) else each for each in values]
    return [words[:MAX_NAME] for each in named[:20] if (words := _words(each))]
