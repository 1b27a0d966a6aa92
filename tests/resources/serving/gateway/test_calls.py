"""Calls that go well, what goes to the model's server and what comes back; and what is refused before it is forwarded."""

from __future__ import annotations

from typing import Any

import pytest

from gongqi.kernel.words import LANGUAGES
from gongqi.resources.serving.plane import bodies
from tests.resources.serving.gateway.conftest import CHAT, INPUT_NANOS, OUTPUT_NANOS, UNIT, Gateway

TEXT = {"role": "user", "content": "你好"}


@pytest.fixture(scope="module", autouse=True)
def routes(gateway: Gateway) -> None:
    gateway.route("small", "words=5")
    gateway.route("free", "words=2", price=(0, 0))
    gateway.route("vectors", "vectors", kind="embeddings", licence="Apache-2.0", openness="open-weights", region="cn")
    gateway.route("unpriced", "words=1", price=None)


def test_a_call_is_answered_and_charged_to_the_token(gateway: Gateway) -> None:
    answer = gateway.call("small")
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "w0 w1 w2 w3 w4 "
    record = gateway.settled(answer)
    assert (record["input_tokens"], record["output_tokens"], record["ending"]) == (7, 5, "complete")
    assert record["cost_nanos"] == 7 * INPUT_NANOS + 5 * OUTPUT_NANOS
    assert not record["is_estimated"] and not record["is_capped"] and record["attempts"] == 1
    gateway.laws_hold()


def test_a_stream_is_charged_by_usage_that_only_who_asks_for_it_sees(gateway: Gateway) -> None:
    id, events = gateway.stream("small")
    assert events[-1] == "[DONE]"
    assert not any(event.get("usage") for event in events[:-1])
    asked, with_usage = gateway.stream("small", stream_options={"include_usage": True})
    assert with_usage[-2]["usage"]["completion_tokens"] == 5
    without = [event["choices"] for event in events[:-1]]
    assert [event["choices"] for event in with_usage[:-2]] == without
    for each in (id, asked):
        record = gateway.settled(each)
        assert (record["input_tokens"], record["output_tokens"], record["is_estimated"]) == (7, 5, False)


def test_a_call_that_costs_nothing_needs_no_money(gateway: Gateway) -> None:
    poor = gateway.issue(budget_day=0)["secret"]
    answer = gateway.call("free", key=poor)
    assert gateway.settled(answer)["cost_nanos"] == 0
    refused = gateway.call("small", key=poor)
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "serving.key-budget-exceeded")


def test_the_body_goes_through_as_it_came_but_for_the_name_and_the_wish_for_usage(gateway: Gateway) -> None:
    body = b'{ "messages":[{"role":"user","content":"\xe4\xbd\xa0 \\"model\\":\\"small\\""}] , "model" : "small","x":[1.50]}'
    with gateway.http() as http:
        http.post(CHAT, content=body)
    gateway.upstream.heads.clear()
    for spelled in (
        body,
        b'{"model":"small","messages":[{"role":"user","content":"hi"}],"schema":[{"model":"small"}]}',
        b'{"mod\\u0065l":"small","messages":[],"metadata":{"model":"small"}}',
    ):
        gateway.upstream.seen.clear()
        with gateway.http() as http:
            assert http.post(CHAT, content=spelled).status_code == 200
        assert gateway.upstream.seen[0]["model"] == "words=5"
    gateway.upstream.seen.clear()
    for options in ({"include_usage": False}, {"include_usage": None}, {"include_usage": True, "more": 1}, None):
        gateway.stream("small", stream_options=options)
    told = [seen["stream_options"] for seen in gateway.upstream.seen]
    assert all(each["include_usage"] is True for each in told) and told[2]["more"] == 1
    assert gateway.upstream.seen[0]["messages"] == [TEXT]


def test_the_key_of_the_caller_does_not_go_to_the_server(gateway: Gateway) -> None:
    gateway.upstream.heads.clear()
    gateway.call("small")
    [head] = gateway.upstream.heads
    assert b"gqk_" not in head and b"authorization" not in head.lower()


def test_a_server_is_shown_the_credential_that_lies_in_the_home(gateway: Gateway) -> None:
    folder = gateway.foundation.settings.home / "credentials"
    folder.mkdir(exist_ok=True)
    (folder / "sim-key").write_text("sk-of-the-house\n")
    given = {"name": "with-secret", "base_url": gateway.upstream.url, "private": True, "credential": "sim-key"}
    endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    gateway.route("secretive", targets=[{"endpoint": endpoint, "model": "words=1"}])
    gateway.upstream.heads.clear()
    assert gateway.call("secretive").status_code == 200
    assert b"authorization: Bearer sk-of-the-house\r\n" in gateway.upstream.heads[0]
    lost = gateway.operator.verb("serving:endpoint:add", **given | {"name": "lost", "credential": "not-there"})["id"]
    gateway.route("lost", targets=[{"endpoint": lost, "model": "words=1"}])
    assert gateway.call("lost").status_code == 404, "better no call than one without its secret"


def test_embeddings_and_completions_are_charged(gateway: Gateway) -> None:
    answer = gateway.call("vectors", path="/v1/embeddings", input=["a", "b"])
    assert len(answer.json()["data"]) == 2
    record = gateway.settled(answer)
    assert (record["input_tokens"], record["output_tokens"]) == (8, 0)
    told = gateway.call("small", path="/v1/completions", prompt="once")
    assert told.json()["choices"][0]["text"].startswith("w0")
    wrong = gateway.call("vectors")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "serving.kind-differs")


def test_the_list_of_models_says_what_each_is_and_costs(gateway: Gateway) -> None:
    with gateway.http() as http:
        listed = {each["id"]: each for each in http.get("/v1/models").json()["data"]}
        assert "unpriced" not in listed
        one = http.get("/v1/models/vectors").json()
        assert one == listed["vectors"]
    more = one["gongqi"]
    assert (more["licence"], more["openness"], more["region"]) == ("Apache-2.0", "open-weights", "cn")
    assert more["price"]["input_per_million_tokens"] == "0.30 CNY"
    assert more["price"]["output_per_million_tokens"] == "0.60 CNY"
    entry = gateway.operator.read("evidence:entry:get", more["evidence"].rsplit("/", 1)[1])
    assert entry["kind"] == "serving.route-defined"
    narrow = gateway.issue(routes=[gateway.routes["vectors"]])["secret"]
    with gateway.http(narrow) as http:
        assert [each["id"] for each in http.get("/v1/models").json()["data"]] == ["vectors"]
    assert gateway.call("small", key=narrow).status_code == 404


def test_usage_explains_a_charge(gateway: Gateway) -> None:
    answer = gateway.call("small")
    gateway.settled(answer)
    with gateway.http() as http:
        [told] = http.get("/v1/usage", params={"id": answer.headers["x-request-id"]}).json()["data"]
        assert told["cost"] == "0.0000051 CNY" and told["cost_nanos"] == 510_000
        price = gateway.operator.read("billing:price:get", told["price"])
        assert (price["number"], price["input_nanos"]) == (told["price_version"], told["input_nanos"])
        assert gateway.operator.read("evidence:entry:get", told["evidence"])["kind"] == "serving.usage-settled"
        assert told["rule"]
        assert len(http.get("/v1/usage").json()["data"]) > 1
        unknown = http.get("/v1/usage", params={"id": "gen_nobodys"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "serving.usage-unknown")
    other = gateway.issue()["secret"]
    with gateway.http(other) as http:
        assert http.get("/v1/usage", params={"id": answer.headers["x-request-id"]}).status_code == 404


def test_a_new_price_holds_for_calls_from_then_on_and_the_old_one_stays_on_record(gateway: Gateway) -> None:
    route = gateway.route("dear", "words=4")
    first = gateway.settled(gateway.call("dear"))
    gateway.operator.verb(
        "billing:price:publish", route=route, unit=UNIT, input_nanos=1, cached_nanos=0, output_nanos=2
    )
    gateway.seen()
    second = gateway.settled(gateway.call("dear"))
    assert (first["price_version"], second["price_version"]) == (1, 2)
    assert second["cost_nanos"] == 7 + 8
    assert second["snapshot"] > first["snapshot"]
    prices = gateway.operator.read("billing:price:list", route=route)["items"]
    assert [each["number"] for each in prices] == [2, 1]


@pytest.mark.heavy
def test_cached_input_is_charged_at_its_own_rate(gateway: Gateway) -> None:
    route = gateway.route("cache", "words=1+cached")
    gateway.operator.verb(
        "billing:price:publish", route=route, unit=UNIT, input_nanos=100, cached_nanos=1, output_nanos=0
    )
    gateway.seen()
    _, events = gateway.stream("cache", stream_options={"include_usage": True})
    assert events[-2]["usage"]["prompt_tokens_details"]["cached_tokens"] == 3
    record = gateway.settled(gateway.call("cache"))
    assert (record["cached_tokens"], record["cost_nanos"]) == (3, 4 * 100 + 3)
    gateway.laws_hold()


# ---- refused before anything is forwarded


@pytest.mark.parametrize(
    ("status", "code", "content"),
    [
        (400, "serving.request-unreadable", b"{"),
        (400, "serving.request-unreadable", b"[]"),
        (400, "serving.request-unreadable", b'{"model":1}'),
        (400, "serving.request-unreadable", b'{"model":"small","max_tokens":0}'),
        (400, "serving.request-unreadable", b'{"model":"small","x":' + b"[" * 100_000 + b"}"),
        (404, "serving.route-unknown", b'{"model":"nothing"}'),
        (404, "serving.route-unknown", b'{"model":"unpriced"}'),
        (400, "serving.output-too-long", b'{"model":"small","max_tokens":513}'),
        (400, "serving.choices-too-many", b'{"model":"small","n":129}'),
        (413, "kernel.body-too-large", b'{"model":"small","x":"' + b"x" * bodies.MAX_BODY_BYTES + b'"}'),
    ],
)
def test_what_cannot_be_forwarded_is_refused(gateway: Gateway, status: int, code: str, content: bytes) -> None:
    gateway.upstream.seen.clear()
    with gateway.http() as http:
        answer = http.post(CHAT, content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert gateway.upstream.seen == []


def test_who_shows_no_key_or_a_wrong_one_is_told_so_in_the_shape_of_the_protocol(gateway: Gateway) -> None:
    for header, code in (
        ({}, "serving.key-needed"),
        ({"authorization": "Basic x"}, "serving.key-needed"),
        ({"authorization": "Bearer gqk_wrong"}, "serving.key-invalid"),
        ({"authorization": f"Bearer {gateway.foundation.token}"}, "serving.key-invalid"),
    ):
        with gateway.http() as http:
            http.headers.pop("authorization")
            answer = http.post(CHAT, json={"model": "small"}, headers=header)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (401, code, "authentication_error")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert set(error["localized"]) == set(LANGUAGES)


def test_of_several_keys_the_first_bearer_is_the_one_that_counts(gateway: Gateway) -> None:
    shown = [
        ("x-api-key", "gqk_wrong"),
        ("authorization", f"Bearer {gateway.key}"),
        ("authorization", "Bearer gqk_wrong"),
    ]
    for headers, status in ((shown, 200), (shown[::-1], 401), (shown[:1], 401)):
        with gateway.http() as http:
            http.headers.pop("authorization")
            assert http.get("/v1/models", headers=headers).status_code == status


def test_errors_speak_the_callers_language(gateway: Gateway) -> None:
    said = {}
    for language in LANGUAGES:
        with gateway.http(None) as http:
            answer = http.post(CHAT, json={"model": "nothing"}, headers={"accept-language": language})
        said[language] = answer.json()["error"]["message"]
        assert answer.headers["content-language"].startswith(language)
    assert "没有" in said["zh"] and "no model" in said["en"]


def test_addresses_and_methods_that_are_not_there(gateway: Gateway) -> None:
    with gateway.http() as http:
        for method, path, status, code in (
            ("GET", "/v1/nothing", 404, "serving.path-unknown"),
            ("GET", CHAT, 405, "serving.method-not-allowed"),
            ("DELETE", "/v1/models", 405, "serving.method-not-allowed"),
        ):
            answer = http.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_key_ends_when_it_expires_is_revoked_or_its_organisation_is_shut_out(gateway: Gateway) -> None:
    issued = gateway.issue()
    assert gateway.call("free", key=issued["secret"]).status_code == 200
    gateway.owner.verb("serving:key:revoke", model_key=issued["id"])
    gateway.seen()
    refused = gateway.call("free", key=issued["secret"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "serving.key-invalid")
    again = gateway.owner.http.post("/api/v1/serving/key/revoke", json={"model_key": issued["id"]})
    assert again.json()["code"] == "serving.key-revoked"


def test_a_retired_route_and_a_retired_endpoint_answer_no_more(gateway: Gateway) -> None:
    given = {"name": "short-lived", "base_url": gateway.upstream.url, "private": True}
    endpoint = gateway.operator.verb("serving:endpoint:add", **given)["id"]
    route = gateway.route("short", targets=[{"endpoint": endpoint, "model": "words=1"}])
    assert gateway.call("short").status_code == 200
    gateway.operator.verb("serving:endpoint:retire", endpoint=endpoint)
    gateway.seen()
    assert gateway.call("short").status_code == 404
    retired = gateway.operator.http.post("/api/v1/serving/endpoint/retire", json={"endpoint": endpoint})
    assert retired.json()["code"] == "serving.endpoint-retired"
    gateway.operator.verb("serving:route:retire", route=route)
    for path, body in (("serving/route/retire", {"route": route}), ("billing/price/publish", prices(route))):
        assert gateway.operator.http.post(f"/api/v1/{path}", json=body).json()["code"] == "serving.route-retired"


def prices(route: str) -> dict[str, Any]:
    return {"route": route, "unit": UNIT, "input_nanos": 1, "output_nanos": 1}


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/v1", "host/v1", "http://user:word@host/v1", "http://host/v1?x=1", "http://host/v1#x",
        "http:///v1", "http://ho st/v1", "http://host:99999/v1", "http://主机/v1", "http://[::1/v1",
    ],
)  # fmt: skip
def test_what_is_no_base_address_is_refused(gateway: Gateway, address: str) -> None:
    answer = gateway.operator.http.post("/api/v1/serving/endpoint/add", json={"name": "bad", "base_url": address})
    assert answer.json()["code"] == "serving.address-invalid"


def test_a_models_name_stays_with_its_organisation(gateway: Gateway) -> None:
    south = gateway.foundation.organisation("south-of-routes")
    target = {"endpoint": gateway.endpoint, "model": "words=1"}
    given = {"name": "small", "org": south, "context_tokens": 10, "targets": [target]}
    answer = gateway.operator.http.post("/api/v1/serving/route/define", json=given)
    assert answer.json()["code"] == "serving.route-of-another"


# ---- limits


def test_requests_a_minute(gateway: Gateway) -> None:
    key = gateway.issue(requests_per_minute=3)["secret"]
    answers = [gateway.call("free", key=key) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].json()["error"]["code"] == "serving.too-many-requests"
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_tokens_a_minute_are_those_that_calls_came_to(gateway: Gateway) -> None:
    key = gateway.issue(tokens_per_minute=120)["secret"]
    statuses = [gateway.call("free", key=key, max_tokens=20).status_code for _ in range(4)]
    assert statuses == [200] * 4, "each may take forty and comes to nine"
    refused = gateway.call("free", key=key, max_tokens=100)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "serving.too-many-tokens")


@pytest.mark.heavy
def test_calls_at_once(gateway: Gateway) -> None:
    gateway.route("late", "late=0.5", price=(0, 0))
    key = gateway.issue(parallel=1)["secret"]
    with gateway.http(key) as http, http.stream("POST", CHAT, json={"model": "late"}) as _first:
        pass
    from concurrent.futures import ThreadPoolExecutor

    asked = {"model": "late", "messages": [{"role": "user", "content": "你好"}]}
    with gateway.http(key) as http, ThreadPoolExecutor(3) as threads:  # one client: to make three may take too long
        answers = list(threads.map(lambda _: http.post(CHAT, json=asked), range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "serving.too-many-at-once"
