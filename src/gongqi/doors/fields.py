"""What an input asks for, read once from its JSON Schema; the form, the command line and the query string follow it.

A field is one of five kinds: `text` (a word, number, date or choice), `flag` (yes or no), `many` (words, one a line),
`rows` (a list of flat objects, one row each) and `json` (whatever has more structure than a form can draw).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from gongqi.kernel.verbs import Input

Kind = Literal["text", "flag", "many", "rows", "json"]
SCALARS = frozenset({"string", "integer", "number"})


@dataclass(frozen=True, slots=True)
class Field:
    """`schema` has its references resolved and its null dropped; `parts` are the columns of `rows`."""

    name: str
    kind: Kind
    schema: Mapping[str, Any]
    required: bool
    parts: tuple[Field, ...] = ()

    @property
    def is_secret(self) -> bool:
        return self.schema.get("format") == "password"


@cache
def fields_of(model: type[Input]) -> tuple[Field, ...]:
    """The fields of an input in the order of their declaration."""
    document = model.model_json_schema()
    return _fields(document, document.get("$defs", {}), rows=True)


def field_named(model: type[Input], name: str) -> Field | None:
    return next((field for field in fields_of(model) if field.name == name), None)


def key_field(model: type[Input]) -> str:
    """The one field that a `get` is addressed by: its first."""
    return next(iter(model.model_fields))


def _fields(document: Mapping[str, Any], definitions: Mapping[str, Any], *, rows: bool) -> tuple[Field, ...]:
    needed = document.get("required", ())
    return tuple(
        _field(name, schema, definitions, required=name in needed, rows=rows)
        for name, schema in document.get("properties", {}).items()
    )


def _field(name: str, raw: Mapping[str, Any], definitions: Mapping[str, Any], *, required: bool, rows: bool) -> Field:
    schema = _plain(raw, definitions)
    kind = schema.get("type")
    if kind == "boolean":
        return Field(name, "flag", schema, required)
    if kind in SCALARS:
        return Field(name, "text", schema, required)
    if kind == "array":
        items = _plain(schema.get("items", {}), definitions)
        if items.get("type") == "string":
            return Field(name, "many", schema, required)
        if rows and items.get("type") == "object" and items.get("properties"):
            parts = _fields(items, definitions, rows=False)
            if all(part.kind in ("text", "flag") for part in parts):
                return Field(name, "rows", schema, required, parts)
    kept = {key: value for key, value in schema.items() if key in ("default", "title")}
    return Field(name, "json", {"type": "object", **kept}, required)


def _plain(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` without `$ref` and without the null of an optional value; a true union stays as it is."""
    kept = dict(schema)
    if "anyOf" in kept:
        some = [each for each in kept["anyOf"] if each.get("type") != "null"]
        if len(some) == 1:
            del kept["anyOf"]
            kept = some[0] | kept
    if "$ref" in kept:
        target = definitions[kept.pop("$ref").rpartition("/")[2]]
        kept = _plain(target, definitions) | kept
    if "pattern" in kept or kept.get("format") == "password":
        kept.pop("maxLength", None)  # a long maximum asks for a text area; a pattern bounds better, a password hides
    if "const" in kept and "enum" not in kept:
        kept["enum"] = [kept["const"]]
    return kept
