"""Feedback at the gateway's door: with the official `openai` package, by the key that called, bounded and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from gongqi.resources.serving import drift
from gongqi.resources.serving.drifting import Change
from gongqi.resources.serving.plane import opinions
from tests.house.conftest import wait_for
from tests.resources.serving.gateway.conftest import Gateway

TERMS = {"agreement_zh": "可回传评价。", "agreement_en": "Ratings may be sent back.", "retention_days": 90}
MESSAGES: Any = [{"role": "user", "content": "你好"}]


@pytest.fixture(scope="module")
def route(gateway: Gateway) -> str:
    return gateway.route("talk", "words=5", **TERMS)


@pytest.fixture(scope="module")
def client(gateway: Gateway, route: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=5) as made:
        yield made


@pytest.fixture(scope="module")
def agreement(client: openai.OpenAI) -> dict[str, Any]:
    return client.models.retrieve("talk").model_dump()["gongqi"]["agreement"]


def asked(client: openai.OpenAI) -> str:
    answer = client.chat.completions.with_raw_response.create(model="talk", messages=MESSAGES)
    return answer.headers["x-request-id"]


def test_the_list_of_models_tells_under_which_agreement_feedback_is_taken(
    agreement: dict[str, Any], gateway: Gateway, route: str
) -> None:
    held = gateway.operator.read("serving:route:get", route)["agreement"]
    told = {name: held[name] for name in ("sha256", "version", "purpose", "retention_days")}
    assert agreement == {"url": f"/serving/model/{route}"} | told
    page = gateway.operator.http.get(agreement["url"], headers={"accept": "text/html"})
    assert held["text_en"] in page.text and held["sha256"][:8] in page.text


@pytest.mark.heavy
def test_a_thumb_by_the_official_client_is_in_the_dataset_within_seconds(
    client: openai.OpenAI, agreement: dict[str, Any], gateway: Gateway, route: str
) -> None:
    call = asked(client)
    said = {"id": call, "agreement": agreement["sha256"], "rating": "down", "correction": "w0", "messages": MESSAGES}
    received: Any = client.post("/feedback", body=said, cast_to=object)
    assert (received["call"], received["state"], received["kinds"]) == (call, "waiting", ["rating", "correction"])
    started = gateway.owner.verb("scenarios:feedback:gather", route=route)

    def ended() -> Any:
        found = gateway.owner.read("scenarios:gathering:get", started["id"])
        return found if found["finished_at"] else None

    done = wait_for(ended)
    assert (done["state"], done["count"]) == ("done", 1)
    file = gateway.owner.http.get(f"/api/v1/hub/revision/{done['revision']}/file/{done['path']}")
    [line] = [json.loads(each) for each in file.text.splitlines()]
    assert (line["rating"], line["correction"], line["messages"]) == ("down", "w0", MESSAGES)
    with pytest.raises(openai.ConflictError, match="cannot be replaced"):
        client.post("/feedback", body=said, cast_to=object)


def test_another_key_of_the_same_organisation_is_told_nothing_of_the_call(
    client: openai.OpenAI, agreement: dict[str, Any], gateway: Gateway
) -> None:
    call = asked(client)
    gateway.settled(call)
    other = gateway.issue()["secret"]
    with gateway.http(other) as http:
        answer = http.post(opinions.PATH, json={"id": call, "agreement": agreement["sha256"], "rating": "up"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "serving.usage-unknown")


def test_a_body_beyond_its_bound_is_refused_and_other_methods_too(gateway: Gateway, route: str) -> None:
    with gateway.http() as http:
        large = http.post(opinions.PATH, content=b" " * (opinions.MAX_BYTES + 1))
        assert (large.status_code, large.json()["error"]["code"]) == (413, "kernel.body-too-large")
        assert http.get(opinions.PATH).json()["error"]["code"] == "serving.method-not-allowed"
        empty = http.post(opinions.PATH, json={"id": "gen_x", "agreement": "0" * 64})
        assert (empty.status_code, empty.json()["error"]["code"]) == (422, "serving.feedback-empty")
        assert empty.json()["error"]["localized"]["zh"]["message"].startswith("反馈里没有")
    assert gateway.plane.bodies.bytes == 0


def test_feedback_counts_as_a_call(gateway: Gateway, route: str) -> None:
    key = gateway.issue(requests_per_minute=2)["secret"]
    said = {"id": "gen_x", "agreement": "0" * 64, "rating": "up"}
    with gateway.http(key) as http:
        codes = [http.post(opinions.PATH, json=said).json()["error"]["code"] for _ in range(4)]
    assert codes[:2] == ["serving.usage-unknown"] * 2 and codes[3] == "serving.too-many-requests"


def test_an_answer_that_was_just_given_is_told_to_come_back(
    client: openai.OpenAI, agreement: dict[str, Any], gateway: Gateway
) -> None:
    call = asked(client)
    said = {"id": call[:-8] + "ffffffff", "agreement": agreement["sha256"], "rating": "up"}
    with gateway.http() as http:
        answer = http.post(opinions.PATH, json=said)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"]["code"] == "serving.feedback-early"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("language", "words"),
    [("en", ("Feedback", "correction", "Drift", "1000.0 ms")), ("zh", ("反馈", "更正", "漂移", "1000.0 毫秒"))],
)
def test_the_page_of_a_model_shows_feedback_and_drift_in_both_languages(
    client: openai.OpenAI,
    agreement: dict[str, Any],
    gateway: Gateway,
    route: str,
    language: str,
    words: tuple[str, ...],
) -> None:
    said = {"id": asked(client), "agreement": agreement["sha256"], "correction": "w1"}
    client.post("/feedback", body=said, cast_to=object)
    change = Change(begins=100, before=1_000_000, after=9_000_000, before_count=100, after_count=60)
    gateway.foundation.kernel.transact(lambda ctx: drift.tell(ctx, route, "latency", change), reason="test")
    inquiry = wait_for(lambda: next(iter(gateway.operator.read("ethics:inquiry:list")["items"]), None))
    person = gateway.foundation.sign_in(gateway.operator.read("members:me:show")["id"])
    cookies = {"gongqi_session": person.secret}
    headers = {"accept": "text/html", "accept-language": language}
    with httpx.Client(base_url=gateway.url, headers=headers, cookies=cookies, trust_env=False) as reader:
        page = reader.get(f"/serving/model/{route}").text
        assert [word for word in words if word not in page] == []
        for path in (f"/ethics/inquiry/{inquiry['id']}", "/ethics"):
            assert "talk" in reader.get(path).text
