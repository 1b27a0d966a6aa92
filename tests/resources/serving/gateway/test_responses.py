"""OpenAI's Responses through the official `openai` package: translated to chat, and passed through; and what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gongqi.resources.serving import kept
from gongqi.resources.serving.plane import responses_as_chat
from tests.house.conftest import wait_for
from tests.resources.serving.gateway.conftest import INPUT_NANOS, OUTPUT_NANOS, Gateway

TOOL: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
TEXT = "w0 w1 w2 w3 w4 "
MODELS = ("gpt", "talk")  # passed through, and translated to chat


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    gateway.route("talk", "words=5")
    gateway.spoken_route("openai-responses", "gpt", "words=5")
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", MODELS)
def test_a_response_is_charged_to_the_token_and_not_kept(client: openai.OpenAI, gateway: Gateway, model: str) -> None:
    answer = client.responses.with_raw_response.create(model=model, input="你好")
    response = answer.parse()
    assert (response.output_text, response.status, response.store) == (TEXT, "completed", False)
    assert response.usage is not None and (response.usage.input_tokens, response.usage.output_tokens) == (7, 5)
    record = gateway.settled(answer.headers["x-request-id"])
    assert record["cost_nanos"] == 7 * INPUT_NANOS + 5 * OUTPUT_NANOS and not record["is_estimated"]
    with pytest.raises(openai.NotFoundError, match="No response"):
        client.responses.retrieve(response.id)
    if model == "gpt":
        assert gateway.upstream.seen[-1]["store"] is False, "no server keeps what we do not"


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_of_events(client: openai.OpenAI, model: str) -> None:
    with client.responses.stream(model=model, input="你好") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == TEXT and final.usage is not None and final.usage.output_tokens == 5
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT


def test_a_name_of_a_response_that_is_none_is_not_said_back_whole(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(model="talk", input="?", previous_response_id="resp_" + "x" * 100_000)
    assert len(caught.value.response.content) < 4_000


def test_a_translated_stream_comes_in_the_order_that_is_written(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="talk", input="你好", stream=True))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * 5,
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(13))


@pytest.mark.parametrize("streams", [False, True])
def test_tools_called_and_their_results_said_back(client: openai.OpenAI, gateway: Gateway, streams: bool) -> None:
    model = gateway.scripted("calls=2+think")
    if streams:
        with client.responses.stream(model=model, input="?", tools=[TOOL]) as stream:
            response = stream.get_final_response()
    else:
        response = client.responses.create(model=model, input="?", tools=[TOOL], tool_choice="required")
    assert [item.type for item in response.output] == ["reasoning", "function_call", "function_call"]
    calls = [item for item in response.output if item.type == "function_call"]
    assert [json.loads(call.arguments) for call in calls] == [{"city": "Xi'an"}] * 2
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "晴"} for call in calls]
    given: Any = [{"role": "user", "content": "?"}, *(item.model_dump() for item in response.output), *results]
    client.responses.create(model="talk", input=given)
    sent = gateway.upstream.seen[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [called["id"] for called in sent[1]["tool_calls"]] == [message["tool_call_id"] for message in sent[2:]]


def test_what_has_a_counterpart_is_translated(client: openai.OpenAI, gateway: Gateway) -> None:
    form: Any = {"type": "json_schema", "name": "city", "schema": {"type": "object"}, "strict": True}
    picture: Any = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    given: Any = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "input_text", "text": "看"}, picture]},
    ]
    response = client.responses.create(
        model="talk", input=given, instructions="kind", max_output_tokens=40, temperature=0.5, top_p=0.9,
        parallel_tool_calls=False, reasoning={"effort": "low"}, text={"format": form}, tools=[TOOL],
        tool_choice={"type": "function", "name": "weather"}, user="u",
    )  # fmt: skip
    function = {"name": "weather", "parameters": {"type": "object"}, "strict": True}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    assert gateway.upstream.seen[-1] == {
        "model": "words=5",
        "messages": [
            {"role": "system", "content": "kind"}, {"role": "system", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": "看"}, image]},
        ],
        "max_tokens": 40, "temperature": 0.5, "top_p": 0.9, "parallel_tool_calls": False, "user": "u",
        "reasoning_effort": "low", "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "response_format": {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}},
    }  # fmt: skip
    assert (response.instructions, response.max_output_tokens, response.temperature) == ("kind", 40, 0.5)


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "web_search"}]}, {"conversation": "c"}, {"background": True}, {"prompt": {"id": "p"}},
        {"tool_choice": {"type": "mcp", "server_label": "s"}}, {"input": [{"type": "item_reference", "id": "i"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(client: openai.OpenAI, gateway: Gateway, more: Any) -> None:
    asked = len(gateway.upstream.seen)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "talk", "input": "?", **more})
    assert caught.value.code == "serving.untranslatable" and len(gateway.upstream.seen) == asked


@pytest.mark.parametrize("more", [{"input": 3}, {"input": [3]}, {"max_output_tokens": 0}, {"text": 3}])
def test_what_is_no_request_is_refused(client: openai.OpenAI, more: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "talk", "input": "?", **more})
    assert caught.value.code == "serving.request-unreadable"


def test_an_answer_that_is_too_long_is_incomplete(client: openai.OpenAI, gateway: Gateway) -> None:
    model = gateway.scripted("finish=length")
    response = client.responses.create(model=model, input="?")
    assert response.status == "incomplete" and response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert list(client.responses.create(model=model, input="?", stream=True))[-1].type == "response.incomplete"


@pytest.mark.parametrize("speaks", ["openai", "openai-responses"])
@pytest.mark.parametrize("script", ["words=9+cut=4", "words=9+fails+slow=0.02"])
def test_a_stream_that_breaks_off_says_so(client: openai.OpenAI, gateway: Gateway, script: str, speaks: str) -> None:
    name = f"{speaks}-{script[8:].replace('=', '-').replace('+', '-')}"
    gateway.spoken_route(speaks, name, script)
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.responses.create(model=name, input="?", stream=True))
    last = wait_for(lambda: next(iter(gateway.usage(route=gateway.routes[name])), None))
    assert (last["ending"], last["input_tokens"]) == ("cut", 0)


def test_more_than_is_held_breaks_off(client: openai.OpenAI, gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(responses_as_chat, "MAX_HELD", 5)
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.responses.create(model=gateway.scripted("words=9+slow=0.01"), input="?", stream=True))


# ---- what is kept


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_a_response_asked_to_be_kept_is_kept_gone_on_from_and_deleted(
    client: openai.OpenAI, gateway: Gateway, model: str, streams: bool
) -> None:
    if streams:
        *_, last = client.responses.create(model=model, input=f"one {model}", store=True, stream=True)
        assert last.type == "response.completed"
        first = last.response
    else:
        first = client.responses.create(model=model, input="one", store=True)
    assert first.store is True
    assert client.responses.retrieve(first.id).output_text == TEXT
    [item] = client.responses.input_items.list(first.id).data
    assert item.type == "message"
    second = client.responses.create(model="talk", input="two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    said = [message["content"] for message in gateway.upstream.seen[-1]["messages"]]
    assert said[1:] == [TEXT, "two"] and said[0].startswith("one")
    with gateway.http(gateway.issue()["secret"]) as another:
        assert another.get(f"/v1/responses/{first.id}").status_code == 404, "another key's is not there"
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=model, input="two", previous_response_id=first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(first.id)


def test_what_was_said_before_is_reserved_and_paid_for(client: openai.OpenAI, gateway: Gateway) -> None:
    first = client.responses.create(model="talk", input="x" * 4000, store=True)
    model = gateway.scripted("words=2+nousage")
    answer = client.responses.with_raw_response.create(model=model, input="y", previous_response_id=first.id)
    assert gateway.settled(answer.headers["x-request-id"])["input_tokens"] > 1000


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 10), ("MAX_OF_A_KEY", 0)])
def test_what_cannot_be_kept_is_answered_and_says_so(
    client: openai.OpenAI, monkeypatch: Any, limit: str, value: int
) -> None:
    monkeypatch.setattr(kept, limit, value)
    for streams in (False, True):
        answer: Any = client.responses.create(model="talk", input="?", store=True, stream=streams)
        response = list(answer)[-1].response if streams else answer
        assert response.store is False and response.output[0].content[0].text == TEXT


def test_what_is_kept_is_deleted_after_its_time(client: openai.OpenAI, gateway: Gateway, monkeypatch: Any) -> None:
    monkeypatch.setattr(kept, "RETENTION_DAYS", 0)
    response = client.responses.create(model="talk", input="?", store=True)
    assert response.store is True
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    assert gateway.foundation.kernel.transact(kept.forget_expired, reason="test") == 1
    assert gateway.foundation.kernel.transact(kept.forget_expired, reason="test") == 0


def test_addresses_beside_it(gateway: Gateway) -> None:
    with gateway.http() as http:
        assert http.get("/v1/responses").status_code == 405
        assert http.put("/v1/responses/resp_1").status_code == 405
        assert http.get("/v1/responses/resp_1/else").status_code == 404
