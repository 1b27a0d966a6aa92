"""The habits of the HTTP API: what is derived, what is refused, what may be repeated."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from gongqi.doors.web import api, server


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/v1/guild/note/create", "POST"),
        ("DELETE", "/api/v1/guild/note/create", "POST"),
        ("POST", "/api/v1/guild/note", "GET, HEAD"),
        ("PUT", "/api/v1/guild/note/gnote_1", "GET, HEAD"),
        ("POST", "/api/v1/openapi.json", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(operator, method: str, path: str, allow: str) -> None:
    if method == "GET":
        operator.headers["accept"] = "*/*"
    answer = operator.request(method, path)
    if path.endswith("create") and method == "GET":  # `create` may also be the key of a note
        assert (answer.status_code, answer.json()["code"]) == (404, "access.not-found")
        return
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json()["code"] == "web.method-not-allowed"


@pytest.mark.parametrize(
    "path",
    ["", "/", "/guild", "/guild/", "/guild/note/", "/nobody/at/home", "/guild/note/a/b", "//guild/note", "/x%00y"],
)
def test_an_unknown_address_is_a_problem_document_that_names_it(operator, path: str) -> None:
    answer = operator.get("/api/v1" + path)
    assert (answer.status_code, answer.json()["code"]) == (404, "web.route-unknown")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_verb_a_list_a_get_and_another_read_have_their_derived_addresses(operator, town) -> None:
    note = town.note(operator)
    assert operator.get("/api/v1/guild/note").json()["items"] == [note]
    assert operator.get(f"/api/v1/guild/note/{note['id']}").json() == note
    assert operator.get("/api/v1/guild/note/first").json()["items"] == [note]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "json_invalid"),
        (b"\xff\xfe{}", "json_invalid"),
        (b"[]", "model_type"),
        (b'"x"', "model_type"),
        (b'{"number": NaN}', "finite_number"),
        (b'{"extra": {"a": -Infinity}}', "finite_number"),
        (b'{"org": "o", "text": "t", "extra": {"a": 1e999}}', "finite_number"),
        (b'{"org": "a", "org": "b"}', "json_name_twice"),
        (b'{"extra": {"a": [{"b": 1, "b": 2}]}}', "json_name_twice"),
        (b'{"org": "o", "text": "\\u0000"}', "nul"),
        (b'{"org": "o", "text": "t", "extra": {"a": ["\\u0000"]}}', "nul"),
        (b'{"org": "o", "text": "t", "extra": {"\\u0000": 1}}', "nul"),
        (b'{"org": "o", "text": "\\ud800"}', None),
        (b'{"org": "o", "text": "t", "number": 9223372036854775808}', "integer_too_large"),
        (b'{"org": "o", "text": "t", "extra": {"n": ' + b"9" * 30 + b"}}", "integer_too_large"),
        (b'{"org": "o", "text": "t", "number": ' + b"9" * 5000 + b"}", "json_invalid"),
        (b'{"org": "o", "text": "t", "extra": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "json_too_deep"),
        (b'{"org": "o", "text": "t", "extra": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}", None),
        (b'{"org": "o", "text": "t", "at": "2026-01-01T00:00:00"}', "timezone_aware"),
        (b'{"org": "o", "text": "t", "unknown": 1}', "extra_forbidden"),
        (b"", "missing"),
    ],
)
def test_bad_input_is_refused_with_its_reason(operator, body: bytes, kind: str | None) -> None:
    answer = operator.post("/api/v1/guild/note/create", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "kernel.input-invalid"
    assert kind is None or problem["params"]["kind"] == kind


def test_escaped_backslashes_are_not_mistaken_for_the_forbidden_character(operator, town) -> None:
    assert town.note(operator, r"\u0000")["text"] == r"\u0000"


def test_the_largest_integer_is_kept_to_the_last_digit(operator, town) -> None:
    assert town.note(operator, number=2**63 - 1)["number"] == 2**63 - 1


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""])
def test_a_verb_takes_json_only(operator, town, media_type: str) -> None:
    body = f'{{"org": "{town.org}", "text": "x"}}'
    answer = operator.post("/api/v1/guild/note/create", content=body, headers={"content-type": media_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "web.media-type-unsupported")


def test_json_may_name_its_charset(operator, town) -> None:
    body = f'{{"org": "{town.org}", "text": "x"}}'
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert operator.post("/api/v1/guild/note/create", content=body, headers=headers).status_code == 200


def test_a_body_that_says_it_is_too_large_is_not_read(operator) -> None:
    headers = {"content-type": "application/json", "content-length": str(api.MAX_BODY_BYTES + 1)}
    answer = operator.post("/api/v1/guild/note/create", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "kernel.body-too-large")


def test_a_body_that_grows_too_large_is_answered_before_it_ends(served, town) -> None:
    with raw(served.url) as connection:
        head = f"POST /api/v1/guild/note/create HTTP/1.1\r\nhost: x\r\nauthorization: {town.auth['authorization']}\r\n"
        connection.sendall((head + "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n").encode())
        for _ in range(api.MAX_BODY_BYTES // 65536 + 1):
            connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def raw(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10)


# ---- repeating ---------------------------------------------------------------------------------------


def test_the_same_key_answers_the_same_and_acts_once(operator, town, evidence) -> None:
    body, headers = {"org": town.org, "text": "once"}, {"idempotency-key": "k-1"}
    before = len(evidence)
    first, again = (operator.post("/api/v1/guild/note/create", json=body, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    assert first.headers["etag"] == again.headers["etag"]
    assert len(evidence) == before + 1


def test_the_same_key_for_another_request_is_refused(operator, town) -> None:
    headers = {"idempotency-key": "k-2"}
    for text, status in (("one", 200), ("two", 409)):
        answer = operator.post("/api/v1/guild/note/create", json={"org": town.org, "text": text}, headers=headers)
        assert answer.status_code == status
    assert answer.json()["code"] == "kernel.idempotency-key-reused"


def test_a_secret_is_not_shown_again_by_repeating(operator, town) -> None:
    note, headers = town.note(operator)["id"], {"idempotency-key": "k-3"}
    answers = [operator.post("/api/v1/guild/note/reveal", json={"note": note}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[1].json()["code"] == "kernel.secret-shown-once"
    assert answers[0].json()["token"] not in answers[1].text


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_a_bad_key_is_refused(operator, town, key: str) -> None:
    body = {"org": town.org, "text": "x"}
    answer = operator.post("/api/v1/guild/note/create", json=body, headers={"idempotency-key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "kernel.idempotency-key-invalid")


# ---- versions and pages ------------------------------------------------------------------------------


def test_what_one_has_seen_is_changed_and_what_one_has_not_seen_is_not(operator, town) -> None:
    note = town.note(operator)["id"]
    seen = operator.get(f"/api/v1/guild/note/{note}").headers["etag"]
    edit = {"note": note, "text": "second"}
    changed = operator.post("/api/v1/guild/note/edit", json=edit, headers={"if-match": seen})
    assert changed.status_code == 200
    assert changed.headers["etag"] != seen
    late = operator.post("/api/v1/guild/note/edit", json=edit, headers={"if-match": seen})
    assert (late.status_code, late.json()["code"]) == (412, "kernel.version-changed")


def test_who_holds_this_version_is_not_sent_it_again(operator, town) -> None:
    note = town.note(operator)["id"]
    etag = operator.get(f"/api/v1/guild/note/{note}").headers["etag"]
    for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = operator.get(f"/api/v1/guild/note/{note}", headers={"if-none-match": held})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert operator.get(f"/api/v1/guild/note/{note}", headers={"if-none-match": '"v9"'}).status_code == 200


def test_pages_follow_one_another_and_lose_nothing_that_was_there(operator, town) -> None:
    made = [town.note(operator, f"n{number}")["id"] for number in range(5)]
    seen, cursor = [], None
    while True:
        page = operator.get("/api/v1/guild/note", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        town.note(operator, "meanwhile")
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == sorted(made, reverse=True)


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=0", 422), ("limit=201", 422), ("limit=x", 422), ("cursor=%00", 422), ("cursor=!!", 400), ("nope=1", 422)],
)
def test_a_bad_question_is_refused(operator, query: str, status: int) -> None:
    assert operator.get(f"/api/v1/guild/note?{query}").status_code == status


def test_a_list_in_a_question_is_a_name_given_more_than_once(operator, town) -> None:
    for text in ("a", "b", "c"):
        town.note(operator, text)
    items = operator.get("/api/v1/guild/note?tag=a&tag=b&lang=zh").json()["items"]
    assert [item["text"] for item in items] == ["b", "a"]


# ---- who calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer  ", "nonsense", ""])
def test_an_authorization_of_another_form_is_refused(stranger, header: str) -> None:
    answer = stranger.get("/api/v1/guild/note", headers={"authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "web.authorization-invalid")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_false_token_is_refused_and_not_taken_for_nobody(stranger) -> None:
    answer = stranger.get("/api/v1/guild/note", headers={"authorization": "Bearer gq_false"})
    assert (answer.status_code, answer.json()["code"]) == (401, "members.token-invalid")


def test_a_stranger_sees_the_public_things_and_is_asked_in_for_the_rest(operator, stranger, town) -> None:
    public, private = town.note(operator, "public"), town.note(operator, "private", public=False)
    assert stranger.get("/api/v1/guild/note").json()["items"] == [public]
    assert stranger.get(f"/api/v1/guild/note/{private['id']}").status_code == 404
    answer = stranger.post("/api/v1/guild/note/edit", json={"note": public["id"], "text": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (401, "access.sign-in-needed")


def test_the_consoles_cookie_opens_no_verb_of_the_api(signed_in, town) -> None:
    body = {"org": town.org, "text": "x"}
    assert signed_in.client.post("/api/v1/guild/note/create", json=body).status_code == 401


# ---- protocols that are not ours to shape ------------------------------------------------------------


def test_an_endpoint_knows_its_caller_and_head_is_answered_like_get(served, town) -> None:
    with httpx.Client(base_url=served.url) as http:
        assert http.get("/guild/raw/a", headers=town.auth).text == "Operator a"
        assert http.get("/guild/raw/a").text == " a"
        head = http.head("/guild/raw/a", headers=town.auth)
        assert (head.status_code, head.content) == (200, b"")
        wrong = http.get("/guild/raw/a", headers={"authorization": "Bearer gq_false"})
        assert (wrong.status_code, wrong.json()["code"]) == (401, "members.token-invalid")


def test_a_page_may_link_to_a_download_but_no_cookie_uploads(signed_in) -> None:
    assert signed_in.get("/guild/raw/a").text == "Operator a"
    assert signed_in.client.put("/guild/raw/a", content=b"x").text == " 1 1 1"


def test_an_upload_reaches_its_endpoint_piece_by_piece(served, town) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    answer = httpx.put(served.url + "/guild/raw/a", content=body(), headers=town.auth)
    _name, pieces, most, size = answer.text.split()
    assert int(size) == 64 * 65536
    assert int(pieces) > 4
    assert int(most) < int(size) // 4


def test_head_of_a_read_says_what_get_says_without_the_body(served, town) -> None:
    with httpx.Client(base_url=served.url, headers=town.auth) as http:
        note = town.note(http)
        got, head = (http.request(method, f"/api/v1/guild/note/{note['id']}") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == got.headers["etag"]
    assert head.headers["content-length"] == got.headers["content-length"]


def test_a_caller_that_leaves_in_the_middle_leaves_no_error_behind(served, town, evidence) -> None:
    before = len(evidence)
    with raw(served.url) as connection:
        head = f"POST /api/v1/guild/note/create HTTP/1.1\r\nhost: x\r\nauthorization: {town.auth['authorization']}\r\n"
        connection.sendall((head + "content-type: application/json\r\ncontent-length: 100\r\n\r\n{").encode())
    assert httpx.get(served.url + "/health").text == "ok\n"
    assert len(evidence) == before


# ---- the envelope ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/api/v1/guild/note", "/api/v1/none", "/guild/raw/a", "/sign-in", "/nowhere"])
def test_every_response_is_numbered_and_guarded(stranger, path: str) -> None:
    answers = [stranger.get(path) for _ in range(2)]
    assert answers[0].headers["x-request-id"] != answers[1].headers["x-request-id"]
    for name, value in server.HEADERS.items():
        assert answers[0].headers[name] == value
    assert answers[0].headers["cache-control"] == "no-store"


def test_the_policy_allows_nothing_inline_and_nothing_foreign() -> None:
    policy = dict(part.strip().split(" ", 1) for part in server.CONTENT_SECURITY_POLICY.split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in server.CONTENT_SECURITY_POLICY
