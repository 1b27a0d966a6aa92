"""OpenAI's APIs at a server that speaks only Anthropic's: chat, and Responses through chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.resources.serving.gateway.conftest import INPUT_NANOS, OUTPUT_NANOS, Gateway

ASKED: Any = [{"role": "user", "content": "你好"}]
FUNCTION = {"name": "weather", "description": "d", "parameters": {"type": "object"}, "strict": True}
TOOL: Any = {"type": "function", "function": FUNCTION}
TEXT = "w0 w1 w2 w3 w4 "


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    gateway.spoken_route("anthropic", "claude", "words=5+cached")
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


def test_chat_is_charged_to_the_token(client: openai.OpenAI, gateway: Gateway) -> None:
    raw = client.chat.completions.with_raw_response.create(model="claude", messages=ASKED)
    answer = raw.parse()
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (10, 5)
    record = gateway.settled(raw.headers["x-request-id"])
    assert (record["input_tokens"], record["cached_tokens"], record["output_tokens"]) == (10, 5, 5)
    assert gateway.upstream.seen[-1]["max_tokens"] == 512, "what was reserved"


@pytest.mark.parametrize("asks", [False, True])
def test_chat_as_it_is_written(client: openai.OpenAI, asks: bool) -> None:
    more: Any = {"stream_options": {"include_usage": True}} if asks else {}
    chunks = list(client.chat.completions.create(model="claude", messages=ASKED, stream=True, **more))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == ([5] if asks else [])
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


@pytest.mark.parametrize("streams", [False, True])
def test_tools_are_called_and_their_results_said_back(client: openai.OpenAI, gateway: Gateway, streams: bool) -> None:
    given: Any = {"model": "claude", "messages": ASKED, "tools": [TOOL]}
    if streams:
        with client.chat.completions.stream(**given) as stream:
            message = stream.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**given).choices[0].message
    [called] = message.tool_calls or []
    assert called.type == "function" and json.loads(called.function.arguments) == {"city": "Xi'an"}
    said = [{"role": "tool", "tool_call_id": called.id, "content": "晴"}, {"role": "user", "content": "?"}]
    client.chat.completions.create(model="claude", messages=[*ASKED, message, *said])
    turns = gateway.upstream.seen[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"][-1] == {
        "type": "tool_use",
        "id": called.id,
        "name": "weather",
        "input": {"city": "Xi'an"},
    }
    result = {"type": "tool_result", "tool_use_id": called.id, "content": [{"type": "text", "text": "晴"}]}
    assert turns[2]["content"] == [result, {"type": "text", "text": "?"}]


def test_what_has_a_counterpart_is_translated(client: openai.OpenAI, gateway: Gateway) -> None:
    parts: Any = [
        {"type": "text", "text": "看"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
    ]  # fmt: skip
    schema: Any = {"type": "json_schema", "json_schema": {"name": "c", "schema": {"type": "object"}}}
    client.chat.completions.create(
        model="claude", messages=[{"role": "system", "content": "kind"}, {"role": "user", "content": parts}],
        max_completion_tokens=40, temperature=1.5, top_p=0.9, stop="END", user="u", reasoning_effort="minimal",
        parallel_tool_calls=False, tools=[TOOL], response_format=schema,
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )  # fmt: skip
    picture = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    assert gateway.upstream.seen[-1] == {
        "model": "words=5+cached", "max_tokens": 40, "temperature": 1, "top_p": 0.9, "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "kind"}], "metadata": {"user_id": "u"},
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "看"}, {"type": "image", "source": picture},
            {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
        ]}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}, "description": "d", "strict": True}],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    }  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2}, {"logprobs": True}, {"frequency_penalty": 0.5}, {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"tools": [{"type": "custom", "custom": {"name": "c"}}]}, {"messages": [{"role": "function", "content": "x"}]},
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(client: openai.OpenAI, gateway: Gateway, more: Any) -> None:
    asked = len(gateway.upstream.seen)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "claude", "messages": ASKED, **more})
    assert caught.value.code == "serving.untranslatable" and len(gateway.upstream.seen) == asked


@pytest.mark.parametrize("script", ["words=9+cut=5", "words=9+fails+slow=0.02"])
def test_a_stream_that_breaks_off_says_so(client: openai.OpenAI, gateway: Gateway, script: str) -> None:
    name = f"across-{script[8:].replace('=', '-').replace('+', '-')}"
    gateway.spoken_route("anthropic", name, script)
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model=name, messages=ASKED, stream=True))
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.responses.create(model=name, input="?", stream=True))


def test_a_fault_of_the_request_is_passed_on(client: openai.OpenAI, gateway: Gateway) -> None:
    gateway.spoken_route("anthropic", "fussy-claude", "status=400")
    with pytest.raises(openai.BadRequestError, match="scripted 400"):
        client.chat.completions.create(model="fussy-claude", messages=ASKED)


def test_a_server_of_another_kind_stands_in(client: openai.OpenAI, gateway: Gateway) -> None:
    route = gateway.spoken_route("anthropic", "first-claude", "status=500")
    assert route
    targets = [
        {"endpoint": gateway.endpoints["anthropic"], "model": "status=500", "rank": 0},
        {"endpoint": gateway.endpoint, "model": "words=5", "rank": 1},
    ]
    gateway.route("either", targets=targets)
    raw = client.chat.completions.with_raw_response.create(model="either", messages=ASKED)
    assert raw.parse().choices[0].message.content == TEXT
    record = gateway.settled(raw.headers["x-request-id"])
    assert (record["attempts"], record["cost_nanos"]) == (2, 7 * INPUT_NANOS + 5 * OUTPUT_NANOS)


def test_a_server_that_cannot_be_told_leaves_the_call_to_one_that_can(client: openai.OpenAI, gateway: Gateway) -> None:
    gateway.spoken_route("anthropic", "other-claude", "words=5")
    targets = [
        {"endpoint": gateway.endpoints["anthropic"], "model": "words=5", "rank": 0},
        {"endpoint": gateway.endpoint, "model": "words=5", "rank": 1},
    ]
    gateway.route("several", targets=targets)
    raw = client.chat.completions.with_raw_response.create(model="several", messages=ASKED, n=2)
    assert gateway.upstream.seen[-1]["n"] == 2
    assert gateway.settled(raw.headers["x-request-id"])["attempts"] == 1


def test_a_turn_that_says_nothing_is_none(client: openai.OpenAI, gateway: Gateway) -> None:
    said: Any = [*ASKED, {"role": "assistant", "content": ""}, {"role": "user", "content": "?"}]
    refused: Any = [*ASKED, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, *ASKED]
    told: Any = [*ASKED, {"role": "assistant", "content": None, "refusal": "no"}, *ASKED]
    for messages, turns in ((said, 1), (refused, 3), (told, 3)):
        client.chat.completions.create(model="claude", messages=messages)
        assert len(gateway.upstream.seen[-1]["messages"]) == turns
        assert all(turn["content"] for turn in gateway.upstream.seen[-1]["messages"])


@pytest.mark.parametrize("streams", [False, True])
def test_responses_go_through_chat(client: openai.OpenAI, gateway: Gateway, streams: bool) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    given: Any = {"model": "claude", "input": "?", "tools": [tool], "store": True}
    if streams:
        *_, last = client.responses.create(stream=True, **given)
        assert last.type == "response.completed"
        response = last.response
    else:
        response = client.responses.create(**given)
    [item] = response.output
    assert item.type == "function_call" and json.loads(item.arguments) == {"city": "Xi'an"}
    assert response.usage is not None and response.usage.input_tokens_details.cached_tokens == 5
    result: Any = {"type": "function_call_output", "call_id": item.call_id, "output": "晴"}
    second = client.responses.create(model="claude", input=[result], previous_response_id=response.id)
    assert second.output_text == TEXT
    assert [turn["role"] for turn in gateway.upstream.seen[-1]["messages"]] == ["user", "assistant", "user"]
