"""Anthropic's Messages at the door: what goes to which server, what comes back, and what it costs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.resources.serving.gateway.conftest import INPUT_NANOS, OUTPUT_NANOS, Gateway

MESSAGES = "/v1/messages"
TOOL = {"name": "weather", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module", autouse=True)
def routes(gateway: Gateway) -> None:
    gateway.route("talk", "words=5")
    gateway.spoken_route("anthropic", "claude", "words=5")


def ask(gateway: Gateway, model: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "你好"}]} | more
    with gateway.http() as http:
        return http.post(MESSAGES, json=body, headers=headers or {})


def told(gateway: Gateway, model: str, **more: Any) -> tuple[str, list[dict[str, Any]]]:
    """(the call's id, its events)."""
    answer = ask(gateway, model, stream=True, **more)
    assert answer.status_code == 200, answer.text
    events = [event.splitlines() for event in answer.text.strip().split("\n\n")]
    for name, data in events:
        assert name.removeprefix("event: ") == json.loads(data[6:])["type"]
    return answer.headers["x-request-id"], [json.loads(data[6:]) for _, data in events]


def forwarded(gateway: Gateway, **more: Any) -> dict[str, Any]:
    assert ask(gateway, "talk", **more).status_code == 200
    return gateway.upstream.seen[-1]


# ---- money


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", ["claude", "talk"])
def test_a_message_is_charged_to_the_token(gateway: Gateway, model: str, streams: bool) -> None:
    call = told(gateway, model)[0] if streams else ask(gateway, model)
    record = gateway.settled(call)
    assert (record["input_tokens"], record["output_tokens"], record["ending"]) == (7, 5, "complete")
    assert record["cost_nanos"] == 7 * INPUT_NANOS + 5 * OUTPUT_NANOS and not record["is_estimated"]


@pytest.mark.parametrize("streams", [False, True])
def test_what_anthropic_read_from_its_cache_is_cached_input_and_what_it_wrote_there_is_input(
    gateway: Gateway, streams: bool
) -> None:
    gateway.spoken_route("anthropic", "caches", "words=5+cached")
    record = gateway.settled(told(gateway, "caches")[0] if streams else ask(gateway, "caches"))
    assert (record["input_tokens"], record["cached_tokens"], record["output_tokens"]) == (10, 5, 5)


def test_cached_tokens_of_a_chat_server_are_told_apart(gateway: Gateway) -> None:
    model = gateway.scripted("words=5+cached")
    usage = {"input_tokens": 4, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0, "output_tokens": 5}
    assert ask(gateway, model).json()["usage"] == usage
    id, events = told(gateway, model)
    assert events[-2]["usage"] == usage
    assert gateway.settled(id)["cached_tokens"] == 3


@pytest.mark.parametrize("speaks", ["openai", "anthropic"])
def test_usage_that_is_missing_is_estimated_and_says_so(gateway: Gateway, speaks: str) -> None:
    name = f"silent-{speaks}"
    gateway.spoken_route(speaks, name, "words=6+nousage")
    id, events = told(gateway, name)
    record = gateway.settled(id)
    assert (record["is_estimated"], record["output_tokens"]) == (True, 6)
    if speaks == "openai":
        assert events[-2]["usage"]["output_tokens"] == 6, "what is told is what is charged"
    assert gateway.settled(ask(gateway, name))["is_estimated"]


@pytest.mark.parametrize(
    ("speaks", "script"),
    [("openai", "words=9+cut=4"), ("anthropic", "words=9+nousage+cut=4"), ("anthropic", "words=9+cut=4")],
)
def test_a_stream_that_is_cut_is_charged_for_what_was_delivered(gateway: Gateway, speaks: str, script: str) -> None:
    name = f"cut-{speaks}-{len(script)}"
    gateway.spoken_route(speaks, name, script)
    id, events = told(gateway, name)
    assert events[-1]["error"]["details"]["error_code"] == "serving.broken-off"
    said = [event for event in events if event["type"] == "content_block_delta"]
    record = gateway.settled(id)
    assert (record["ending"], record["input_tokens"]) == ("cut", 0)
    assert record["output_tokens"] == len(said) > 0 and record["is_estimated"]


def test_an_answer_that_was_cut_short_while_it_called_a_tool_says_so(gateway: Gateway) -> None:
    model = gateway.scripted("finish=length")
    assert ask(gateway, model, tools=[TOOL]).json()["stop_reason"] == "max_tokens"
    assert told(gateway, model, tools=[TOOL])[1][-2]["delta"]["stop_reason"] == "max_tokens"


def test_arguments_that_are_no_json_are_no_answer_and_cost_nothing(gateway: Gateway) -> None:
    answer = ask(gateway, gateway.scripted("mangled"), tools=[TOOL])
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "api_error")
    assert gateway.settled(answer)["cost_nanos"] == 0


def test_counting_leaves_a_record_that_costs_nothing(gateway: Gateway) -> None:
    body = {"model": "claude", "messages": [{"role": "user", "content": "你好"}]}
    with gateway.http() as http:
        answer = http.post(f"{MESSAGES}/count_tokens", json=body)
    record = gateway.settled(answer)
    assert (record["cost_nanos"], record["input_tokens"], record["input_nanos"]) == (0, 0, 0)


# ---- to a server that speaks it


def test_bytes_and_the_version_go_to_a_server_that_speaks_it(gateway: Gateway) -> None:
    answer = ask(gateway, "claude", {"anthropic-beta": "one-2025-01-01,two"}, metadata={"user_id": "u"}, top_k=3)
    assert answer.json()["id"] == "msg_1", "its own answer"
    head = gateway.upstream.heads[-1]
    assert head.startswith(b"POST /v1/messages HTTP/1.1")
    assert b"anthropic-version: 2023-06-01" in head and b"anthropic-beta: one-2025-01-01,two" in head
    assert b"authorization" not in head
    assert gateway.upstream.seen[-1] | {"model": "claude"} == {
        "model": "claude", "max_tokens": 50, "messages": [{"role": "user", "content": "你好"}], "top_k": 3,
        "metadata": {"user_id": "u"},
    }  # fmt: skip


# ---- to a server that speaks chat


def test_what_has_a_counterpart_is_translated(gateway: Gateway) -> None:
    sent = forwarded(
        gateway, system=[{"type": "text", "text": "kind", "cache_control": {"type": "ephemeral"}}], top_k=5,
        temperature=0.5, top_p=0.9, stop_sequences=["END"], metadata={"user_id": "u"}, tools=[TOOL | {"strict": True}],
        tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        thinking={"type": "adaptive"}, service_tier="auto",
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    )  # fmt: skip
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    function = {"name": "weather", "parameters": {"type": "object"}, "strict": True}
    assert sent == {
        "model": "words=5", "max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop": ["END"],
        "messages": [{"role": "system", "content": "kind"}, {"role": "user", "content": "你好"}], "user": "u",
        "tools": [{"type": "function", "function": function}], "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "weather"}}, "reasoning_effort": "high",
        "response_format": {"type": "json_schema", "json_schema": schema},
    }  # fmt: skip


@pytest.mark.parametrize(("choice", "said"), [("auto", "auto"), ("any", "required"), ("none", "none")])
def test_how_tools_may_be_chosen(gateway: Gateway, choice: str, said: str) -> None:
    assert forwarded(gateway, tools=[TOOL], tool_choice={"type": choice})["tool_choice"] == said


def test_a_conversation_is_translated_turn_by_turn(gateway: Gateway) -> None:
    png = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "看"}, {"type": "image", "source": png}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "西安"}},
            {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "晴"}]},
            {"type": "tool_result", "tool_use_id": "t2", "is_error": True}, {"type": "text", "text": "x"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "y"}},
        ]},
    ]  # fmt: skip
    called = [
        {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"西安"}'}},
        {"id": "t2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert forwarded(gateway, messages=turns)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "看"}, picture]},
        {"role": "assistant", "content": "a", "tool_calls": called},
        {"role": "tool", "tool_call_id": "t1", "content": "晴"},
        {"role": "tool", "tool_call_id": "t2", "content": ""},
        {"role": "user", "content": "x\ny"},
    ]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"container": "c"}, "container"),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
            "container_upload",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]}, "image file"),
    ],
)
def test_what_has_no_counterpart_is_refused_and_named(gateway: Gateway, more: dict[str, Any], what: str) -> None:
    asked = len(gateway.upstream.seen)
    answer = ask(gateway, "talk", **more)
    error = answer.json()["error"]
    assert (answer.status_code, error["details"]["error_code"]) == (400, "serving.untranslatable")
    assert what in error["message"] and len(gateway.upstream.seen) == asked
    assert gateway.settled(answer)["cost_nanos"] == 0


@pytest.mark.parametrize(
    "more",
    [{"messages": "hi"}, {"messages": [{"role": "user"}]}, {"tools": [1]}, {"max_tokens": None}, {"thinking": 3}],
)
def test_what_is_no_message_is_refused(gateway: Gateway, more: dict[str, Any]) -> None:
    answer = ask(gateway, "talk", **more)
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("script", "reason"),
    [("finish=length", "max_tokens"), ("finish=content_filter", "refusal"), ("words=2", "end_turn")],
)
def test_why_it_stopped(gateway: Gateway, script: str, reason: str) -> None:
    model = gateway.scripted(script)
    assert ask(gateway, model).json()["stop_reason"] == reason
    assert told(gateway, model)[1][-2]["delta"]["stop_reason"] == reason


def test_thought_comes_to_those_who_asked_for_it(gateway: Gateway) -> None:
    model = gateway.scripted("words=2+think")
    for more, kinds in (({}, ["text"]), ({"thinking": {"type": "adaptive"}}, ["thinking", "text"])):
        assert [block["type"] for block in ask(gateway, model, **more).json()["content"]] == kinds
        _, events = told(gateway, model, **more)
        begun = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
        assert begun == kinds


def test_two_tools_called_at_once_are_two_blocks_one_after_the_other(gateway: Gateway) -> None:
    model = gateway.scripted("calls=2")
    blocks = ask(gateway, model, tools=[TOOL]).json()["content"]
    assert [(block["type"], block["id"], block["input"]) for block in blocks] == [
        ("tool_use", "t1", {"city": "Xi'an"}), ("tool_use", "t2", {"city": "Xi'an"}),
    ]  # fmt: skip
    _, events = told(gateway, model, tools=[TOOL])
    for index in (0, 1):
        own = [event for event in events if event.get("index") == index]
        kinds = [event["type"] for event in own]
        assert kinds == ["content_block_start", *["content_block_delta"] * 2, "content_block_stop"]
        assert own[0]["content_block"] == {"type": "tool_use", "id": f"t{index + 1}", "name": "weather", "input": {}}
        said = "".join(event["delta"]["partial_json"] for event in own[1:-1])
        assert json.loads(said) == {"city": "Xi'an"}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_text_that_says_what_ends_a_stream_does_not_end_it(gateway: Gateway) -> None:
    model = gateway.scripted("words=2+says=data:_[DONE]+slow=0.02")
    _, events = told(gateway, model)
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    assert text == "w0 w1 data: [DONE]" and events[-1]["type"] == "message_stop"
    id, chunks = gateway.stream(model)
    assert chunks[-1] == "[DONE]" and gateway.settled(id)["ending"] == "complete"
    assert gateway.settled(id)["output_tokens"] == 3
