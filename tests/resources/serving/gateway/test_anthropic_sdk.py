"""The official `anthropic` package, unmodified, with nothing changed but its `base_url` and key; over a server that
speaks Anthropic's API and over one that speaks OpenAI's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.resources.serving.gateway.conftest import Gateway

pytestmark = pytest.mark.heavy

ASKED: Any = [{"role": "user", "content": "西安的天气？"}]
TOOL: Any = {
    "name": "weather", "description": "Weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip
MODELS = ("claude", "talk")  # answered by either kind of server


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    gateway.route("talk", "words=5")
    gateway.spoken_route("anthropic", "claude", "words=5")
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", MODELS)
def test_a_message(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, max_tokens=50, messages=ASKED)
    [block] = answer.content
    assert block.type == "text" and block.text == "w0 w1 w2 w3 w4 "
    assert (answer.stop_reason, answer.role, answer.type) == ("end_turn", "assistant", "message")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 5)
    assert answer._request_id and answer._request_id.startswith("gen_")


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_comes_in_the_order_that_is_written(client: anthropic.Anthropic, model: str) -> None:
    raw = client.messages.create(model=model, max_tokens=50, messages=ASKED, stream=True)
    kinds = [event.type for event in raw]
    between = ["content_block_start", *["content_block_delta"] * 5, "content_block_stop"]
    assert kinds == ["message_start", *between, "message_delta", "message_stop"]
    with client.messages.stream(model=model, max_tokens=50, messages=ASKED) as stream:
        assert list(stream.text_stream) == [f"w{number} " for number in range(5)]
        final = stream.get_final_message()
    assert (final.usage.input_tokens, final.usage.output_tokens, final.stop_reason) == (7, 5, "end_turn")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_a_tool_is_called_and_its_result_is_said_back(
    client: anthropic.Anthropic, gateway: Gateway, model: str, streams: bool
) -> None:
    given: Any = {"model": model, "max_tokens": 50, "tools": [TOOL], "tool_choice": {"type": "any"}}
    if streams:
        with client.messages.stream(messages=ASKED, **given) as stream:
            answer = stream.get_final_message()
    else:
        answer = client.messages.create(messages=ASKED, **given)
    [block] = answer.content
    assert block.type == "tool_use" and (block.name, block.input) == ("weather", {"city": "Xi'an"})
    assert answer.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "晴"}
    said = [*ASKED, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    client.messages.create(messages=said, model=model, max_tokens=50)
    forwarded = gateway.upstream.seen[-1]["messages"]
    if model == "talk":
        assert forwarded[1]["tool_calls"][0]["id"] == forwarded[2]["tool_call_id"] == block.id
        assert forwarded[2] == {"role": "tool", "tool_call_id": block.id, "content": "晴"}
    else:
        assert forwarded[2]["content"] == [result]


@pytest.mark.parametrize("model", MODELS)
def test_tokens_of_a_prompt_are_counted_and_cost_nothing(
    client: anthropic.Anthropic, gateway: Gateway, model: str
) -> None:
    spent = sum(row["cost_nanos"] for row in gateway.usage())
    counted = client.messages.count_tokens(model=model, messages=ASKED, system="x" * 400, tools=[TOOL])
    assert counted.input_tokens == 42 if model == "claude" else 100 < counted.input_tokens < 160
    assert (counted.model_extra or {}).get("estimated", False) is (model == "talk")
    client.messages.create(model="talk", max_tokens=5, messages=ASKED)
    rows = gateway.usage(route=gateway.routes["claude"])
    assert all(row["cost_nanos"] == 0 or row["output_tokens"] for row in rows)
    assert sum(row["cost_nanos"] for row in gateway.usage()) >= spent


def test_models_are_listed_as_it_reads_them(client: anthropic.Anthropic) -> None:
    assert set(MODELS) <= {model.id for model in client.models.list()}
    model = client.models.retrieve("talk")
    assert (model.type, model.display_name, model.created_at.year >= 2025) == ("model", "talk", True)
    assert (model.max_input_tokens, model.max_tokens, model.lifecycle) == (8192, 512, "active")


def test_a_key_may_come_as_bearer(gateway: Gateway) -> None:
    gateway.route("talk", "words=5")
    with anthropic.Anthropic(base_url=gateway.url, auth_token=gateway.key, api_key=None, max_retries=0) as client:
        assert client.messages.create(model="talk", max_tokens=5, messages=ASKED).content


@pytest.mark.parametrize(
    ("script", "error", "kind"),
    [
        ("status=500", "InternalServerError", "api_error"),
        ("status=429+after=3", "OverloadedError", "overloaded_error"),
        ("status=400", "BadRequestError", "invalid_request_error"),
        ("broken", "InternalServerError", "api_error"),
    ],
)
def test_errors_are_the_errors_that_it_knows(
    client: anthropic.Anthropic, gateway: Gateway, script: str, error: str, kind: str
) -> None:
    with pytest.raises(getattr(anthropic, error)) as caught:
        client.messages.create(model=gateway.scripted(script), max_tokens=5, messages=ASKED)
    assert caught.value.type == kind
    if script == "status=400":
        assert caught.value.api_message == "scripted 400", "what the server says of the request itself"


def test_refusals_are_in_its_form_and_in_both_languages(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="nothing", max_tokens=5, messages=ASKED)
    assert (caught.value.type, caught.value.error_code) == ("not_found_error", "serving.route-unknown")
    body: Any = caught.value.body
    assert set(body["error"]["details"]["localized"]) == {"zh", "en"}
    assert body["request_id"] == caught.value.request_id
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="gqk_wrong").models.list()
    with pytest.raises(anthropic.BadRequestError, match="512"):
        client.messages.create(model="talk", max_tokens=10_000, messages=ASKED)


@pytest.mark.parametrize("speaks", ["openai", "anthropic"])
@pytest.mark.parametrize("script", ["words=9+cut=3", "words=9+fails+slow=0.02"])
def test_a_stream_that_breaks_off_says_so(
    client: anthropic.Anthropic, gateway: Gateway, script: str, speaks: str
) -> None:
    name = f"{speaks}-{script[8:].replace('=', '-').replace('+', '-')}"
    gateway.spoken_route(speaks, name, script)
    with pytest.raises(anthropic.APIStatusError, match="broke off"):
        list(client.messages.create(model=name, max_tokens=50, messages=ASKED, stream=True))
