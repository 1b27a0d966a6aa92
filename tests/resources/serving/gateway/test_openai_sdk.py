"""The official `openai` package, unmodified, with nothing changed but its `base_url` and key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.resources.serving.gateway.conftest import Gateway

ASKED: Any = [{"role": "user", "content": "西安的天气？"}]


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    gateway.route("talk", "words=5")
    gateway.route("vectors", "vectors", kind="embeddings")
    gateway.route("gone", "status=500")
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="talk", messages=ASKED)
    assert answer.choices[0].message.content == "w0 w1 w2 w3 w4 "
    assert answer.usage is not None and answer.usage.total_tokens == 12


@pytest.mark.parametrize("asks", [False, True])
def test_chat_as_it_is_written_with_usage_only_when_asked_for(client: openai.OpenAI, asks: bool) -> None:
    more: Any = {"stream_options": {"include_usage": True}} if asks else {}
    chunks = list(client.chat.completions.create(model="talk", messages=ASKED, stream=True, **more))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "w0 w1 w2 w3 w4 "
    told = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert told == ([5] if asks else [])


def test_tools_go_through(client: openai.OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
    answer = client.chat.completions.create(model="talk", messages=ASKED, tools=[tool])
    [called] = answer.choices[0].message.tool_calls or []
    assert called.type == "function" and called.function.name == "weather"
    assert json.loads(called.function.arguments) == {"city": "Xi'an"}


def test_a_schema_for_the_answer_goes_through(client: openai.OpenAI, gateway: Gateway) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
    answer = client.chat.completions.create(model="talk", messages=ASKED, response_format=schema)
    assert json.loads(answer.choices[0].message.content or "") == {"city": "西安"}
    assert gateway.upstream.seen[-1]["response_format"] == schema


def test_embeddings_and_models(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="vectors", input=["a", "b", "c"], encoding_format="float")
    assert len(made.data) == 3 and made.data[0].embedding == [0.1, 0.2]
    assert {"talk", "vectors"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("talk").id == "talk"


def test_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="talk", prompt="once").choices[0].text.startswith("w0")


def test_errors_are_the_errors_that_it_knows(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.chat.completions.create(model="nothing", messages=ASKED)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="talk", messages=ASKED, max_tokens=100_000)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="gone", messages=ASKED)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="gqk_wrong").models.list()
    gateway.route("stumbles", "words=9+cut=3")
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.chat.completions.create(model="stumbles", messages=ASKED, stream=True))
