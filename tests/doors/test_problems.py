"""Errors at the doors: one shape, two languages, nothing secret."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gongqi.doors.web import problems
from gongqi.kernel.errors import Refused

MEMBERS = {"type", "title", "status", "detail", "remedy", "code", "params", "request_id", "localized"}


def test_a_refusal_is_a_problem_document_in_both_languages(operator) -> None:
    answer = operator.get("/api/v1/guild/note/none", headers={"accept-language": "zh-CN,en;q=0.5"})
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-language"] == "zh-CN"
    assert problem.keys() == MEMBERS
    assert problem["status"] == answer.status_code == 404
    assert problem["type"] == "urn:gongqi:error:access.not-found"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"] == problem["localized"]["zh"]["detail"] != problem["localized"]["en"]["detail"]
    assert all(problem["localized"][language][part] for language in ("zh", "en") for part in ("detail", "remedy"))


@pytest.mark.parametrize(
    ("asked", "got"), [("en-GB", "en"), ("zh-Hant", "zh-CN"), ("fr", "en"), ("", "en"), ("en;q=0.1,zh;q=0.9", "zh-CN")]
)
def test_the_language_is_the_callers(operator, asked: str, got: str) -> None:
    assert operator.get("/api/v1/none", headers={"accept-language": asked}).headers["content-language"] == got


def test_the_reason_of_an_invalid_input_is_worded_in_both_languages(operator, town) -> None:
    body = {"org": town.org, "text": "x" * 101}
    problem = operator.post("/api/v1/guild/note/create", json=body).json()
    assert "100 个字符" in problem["localized"]["zh"]["detail"]
    assert "at most 100 characters" in problem["localized"]["en"]["detail"]
    assert problem["params"]["where"] == "text"


def test_what_was_sent_is_not_repeated(operator) -> None:
    problem = operator.post("/api/v1/members/password/set", json={"password": ["hunter2-hunter2"]})
    assert problem.status_code == 422
    assert "hunter2" not in problem.text


def test_our_own_bug_is_told_in_general_and_changes_nothing(operator, town) -> None:
    note = town.note(operator)["id"]
    answer = operator.post("/api/v1/guild/note/break", json={"note": note})
    assert (answer.status_code, answer.json()["code"]) == (500, "kernel.broken")
    assert "inside" not in answer.json()["params"] and "a secret" not in answer.text


def test_not_now_says_when(operator, town) -> None:
    answer = operator.post("/api/v1/guild/note/wait", json={"note": town.note(operator)["id"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


def test_a_browser_gets_a_page_and_a_program_a_document(stranger) -> None:
    page = stranger.get("/nowhere", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert page.headers["x-request-id"] in page.text
    assert stranger.get("/nowhere").json()["code"] == "web.route-unknown"


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_a_page_that_is_only_read_refuses_other_methods_by_name(stranger, accept: str) -> None:
    answer = stranger.post("/guild", headers={"accept": accept})
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert "web.method-not-allowed" in answer.text


@pytest.mark.parametrize("path", ["/guild/", "/sign-in/", "/live/"])
def test_one_address_has_one_spelling(stranger, path: str) -> None:
    assert stranger.get(path).status_code in (404,)


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ClientDisconnect(), "web.caller-left", 400),
        (HTTPException(404), "web.route-unknown", 404),
        (HTTPException(405, headers={"Allow": "GET"}), "web.method-not-allowed", 405),
        (HTTPException(400, "Missing boundary"), "web.request-malformed", 400),
        (ValueError("inside"), "kernel.broken", 500),
    ],
)
def test_every_exception_has_a_code(house, error: Exception, code: str, status: int) -> None:
    known = problems.catalogued(error, "req_1", "/here")
    assert (known.code, problems.document(known, house=house, language="en", request_id="r")[0]) == (code, status)


def test_a_reason_without_words_is_given_as_the_validator_says_it(house) -> None:
    odd = Refused("kernel.input-invalid", where="x", why="Input should be odd", kind="odd_number")
    assert "Input should be odd" in problems.document(odd, house=house, language="zh", request_id="r")[1]["detail"]
