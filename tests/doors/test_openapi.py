"""The OpenAPI document: true to what is answered, and nothing that it allows breaks the house."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup

from gongqi.doors.web import openapi
from gongqi.doors.web.api import path_of


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


def walk_every_operation(app: Any, headers: dict[str, str], *, examples: int) -> int:
    """Call every operation with good and bad input; returns how many calls. Fails at the first 5xx of our making."""
    calls = 0
    for found in schemathesis.openapi.from_asgi("/api/v1/openapi.json", app).get_all_operations():
        operation = found.ok()
        good, bad = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

        @hypothesis.settings(
            max_examples=examples, deadline=None, database=None, derandomize=True,
            phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @hypothesis.given(case=good | bad)
        def call(case: Any) -> None:
            nonlocal calls
            calls += 1
            response = case.call(headers=headers)
            if response.status_code != 503:  # "not now", which no document can rule out
                case.validate_response(response, checks=[not_a_server_error])

        call()
    return calls


@pytest.mark.long
@pytest.mark.parametrize("examples", [2, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_operation_breaks_for_an_operator(whole, examples: int) -> None:
    assert walk_every_operation(whole.app, whole.auth, examples=examples) > 100


@pytest.mark.long
@pytest.mark.parametrize("examples", [1, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_operation_breaks_for_a_stranger(whole, examples: int) -> None:
    assert walk_every_operation(whole.app, {}, examples=examples) > 50


@pytest.mark.heavy
def test_the_walk_finds_an_operation_that_breaks(town) -> None:
    with pytest.raises(FailureGroup, match="Server error"):
        walk_every_operation(town.app, town.auth, examples=5)


def test_what_is_answered_is_what_was_promised(operator, town, document) -> None:
    note = town.note(operator)
    promised = document["components"]["schemas"]["NoteOut"]
    assert note.keys() == promised["properties"].keys()
    assert set(promised["required"]) <= note.keys()
    problem = operator.get("/api/v1/guild/note/none").json()
    assert problem.keys() == document["components"]["schemas"]["Problem"]["properties"].keys()
