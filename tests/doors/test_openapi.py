"""The OpenAPI document: true to what is answered, and nothing that it allows breaks the house."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from gongqi.doors.web import openapi
from gongqi.doors.web.api import path_of

EXAMPLES = 12  # of each operation; enough to meet every field with something odd in it


@pytest.fixture(scope="module")
def document(house) -> dict[str, Any]:
    return openapi.document(house)


def test_every_verb_and_read_is_in_the_document(document, house) -> None:
    operations = {
        operation["operationId"]: (path, method)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    expected = {name: (f"/api/v1/{path_of(name)}", "post") for name in house.verbs}
    expected |= {name: (f"/api/v1/{path_of(name)}", "get") for name in house.reads}
    assert operations == expected


def test_every_reference_of_the_document_leads_somewhere(document) -> None:
    schemas = document["components"]["schemas"]

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                prefix, _, name = part["$ref"].rpartition("/")
                assert prefix == "#/components/schemas"
                assert name in schemas
            for each in part.values():
                walk(each)
        elif isinstance(part, list):
            for each in part:
                walk(each)

    walk(document)


def test_the_document_is_served(stranger, document) -> None:
    assert stranger.get("/api/v1/openapi.json").json() == document


def walk_every_operation(app: Any, headers: dict[str, str], *, examples: int = EXAMPLES) -> int:
    """Call every operation with good and bad input; returns how many calls. Fails at the first 5xx of our making."""
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    calls = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(
            max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        def call(case: Any) -> None:
            nonlocal calls
            calls += 1
            response = case.call(headers=headers)
            if response.status_code == 503 and "retry-after" in response.headers:
                return
            if case.operation.label.endswith("/guild/note/break"):
                return  # it is there to break
            case.validate_response(response, checks=[not_a_server_error])

        call()
    return calls


def test_no_operation_breaks_for_an_operator(town) -> None:
    assert walk_every_operation(town.app, town.auth) > 100


def test_no_operation_breaks_for_a_stranger(town) -> None:
    assert walk_every_operation(town.app, {}, examples=6) > 50


def test_what_is_answered_is_what_was_promised(operator, town, document) -> None:
    note = town.note(operator)
    promised = document["components"]["schemas"]["NoteOut"]
    assert note.keys() == promised["properties"].keys()
    assert set(promised["required"]) <= note.keys()
    problem = operator.get("/api/v1/guild/note/none").json()
    assert problem.keys() == document["components"]["schemas"]["Problem"]["properties"].keys()
