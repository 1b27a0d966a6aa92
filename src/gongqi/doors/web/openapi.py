"""The OpenAPI 3.1 document of the derived API, made from the same declarations that answer the requests."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from gongqi import __version__
from gongqi.kernel.room import House
from gongqi.kernel.verbs import Input, ReadVerb, Verb

_TEMPLATE = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "remedy", "code", "params", "request_id", "localized"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
        "code": {"type": "string"},
        "params": {"type": "object"},
        "request_id": {"type": "string"},
        "localized": {"type": "object"},
    },
}


def document(house: House) -> dict[str, Any]:
    """The whole document. Each verb's permission is its `operationId`; help comes in both languages."""
    from gongqi.doors.web.api import PREFIX, path_of

    models = [(v.input, "validation") for v in house.verbs.values()] + [(o, "serialization") for o in _outputs(house)]
    mapping, definitions = models_json_schema(models, ref_template=_TEMPLATE)  # type: ignore[arg-type]
    schemas = definitions.get("$defs", {}) | {"Problem": _PROBLEM}
    paths: dict[str, Any] = {}
    for verb in house.verbs.values():
        schema = mapping[(verb.input, "validation")]
        paths.setdefault(f"{PREFIX}/{path_of(verb.name)}", {})["post"] = _post(house, verb, schema, mapping)
    for read in house.reads.values():
        paths.setdefault(f"{PREFIX}/{path_of(read.name)}", {})["get"] = _get(house, read, mapping)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gongqi 公器",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}, {}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _outputs(house: House) -> list[Any]:
    outputs = {id(each.output): each.output for each in (*house.verbs.values(), *house.reads.values())}
    return list(outputs.values())


def _operation(house: House, name: str, output: Any, mapping: Any) -> dict[str, Any]:
    words = house.words.verbs[name]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        "operationId": name,
        "tags": [name.split(":")[0]],
        "summary": f"{words.label['en']} · {words.label['zh']}",
        "description": f"{words.help['en']}\n\n{words.help['zh']}",
        "responses": {
            "200": {
                "description": "OK",
                "content": {"application/json": {"schema": mapping[(output, "serialization")]}},
            },
            "4XX": {"description": "Refused: the caller can fix it", "content": problem},
            "503": {"description": "Unavailable: try again after Retry-After", "content": problem},
        },
    }


def _post(house: House, verb: Verb, schema: Any, mapping: Any) -> dict[str, Any]:
    operation = _operation(house, verb.name, verb.output, mapping)
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    operation["parameters"] = [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
        }
    ]
    return operation


def _get(house: House, read: ReadVerb, mapping: Any) -> dict[str, Any]:
    operation = _operation(house, read.name, read.output, mapping)
    by_key = read.name.endswith(":get")
    operation["parameters"] = _parameters(read.input, by_key=by_key)
    return operation


def _parameters(model: type[Input], *, by_key: bool) -> list[dict[str, Any]]:
    parameters = []
    for position, (name, field) in enumerate(model.model_fields.items()):
        kind: Any = field.annotation
        if field.metadata:
            kind = typing.Annotated[kind, *field.metadata]  # type: ignore[valid-type]
        schema = TypeAdapter(kind).json_schema()
        in_path = by_key and position == 0
        parameters.append(
            {
                "name": "key" if in_path else name,
                "in": "path" if in_path else "query",
                "required": in_path or field.is_required(),
                "schema": schema,
            }
        )
    return parameters
