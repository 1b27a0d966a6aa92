"""What an input asks for, read once from its JSON Schema; the form, the command line and the query string follow it.

A field is one of six kinds: `text` (a word, number, date or choice), `flag` (yes or no), `many` (words or numbers, one a
line), `group` (one object of named fields), `rows` (a list of such objects) and `json` (whatever has no names to draw: a
map with free keys, a union of shapes, or objects nested deeper than `MAX_DEPTH`, which also ends a type that holds itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from gongqi.kernel.verbs import Input

Kind = Literal["text", "flag", "many", "group", "rows", "json"]
SCALARS = frozenset({"string", "integer", "number"})
MAX_DEPTH = 2  # objects within objects; what lies deeper nobody would fill in by hand


@dataclass(frozen=True, slots=True)
class Field:
    """`schema` has its references resolved and its null dropped; `parts` are the fields of a `group` or of each row."""

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
    return _fields(document, document.get("$defs", {}), depth=0)


def field_named(model: type[Input], name: str) -> Field | None:
    return next((field for field in fields_of(model) if field.name == name), None)


def key_field(model: type[Input]) -> str:
    """The one field that a `get` is addressed by: its first."""
    return next(iter(model.model_fields))


def _fields(document: Mapping[str, Any], definitions: Mapping[str, Any], *, depth: int) -> tuple[Field, ...]:
    needed = document.get("required", ())
    return tuple(
        _field(name, schema, definitions, required=name in needed, depth=depth)
        for name, schema in document.get("properties", {}).items()
    )


def _field(name: str, raw: Mapping[str, Any], definitions: Mapping[str, Any], *, required: bool, depth: int) -> Field:
    schema = _plain(raw, definitions)
    kind = schema.get("type")
    if kind == "boolean":
        return Field(name, "flag", schema, required)
    if kind in SCALARS:
        return Field(name, "text", schema, required)
    items = _plain(schema.get("items", {}), definitions)
    if kind == "array" and items.get("type") in SCALARS:
        return Field(name, "many", schema, required)
    named = items if kind == "array" else schema
    if depth < MAX_DEPTH and named.get("type") == "object" and named.get("properties"):
        parts = _fields(named, definitions, depth=depth + 1)
        return Field(name, "rows" if kind == "array" else "group", schema, required, parts)
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
