"""Models of the hub that the foundation runs itself: one verb, a route, and OpenAI's client."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy
import openai
import pytest

from gongqi.resources.serving.engines.host import Host
from tests.house.conftest import wait_for
from tests.resources.serving.gateway.conftest import INPUT_NANOS, OUTPUT_NANOS, Gateway
from tests.sim import tiny_models, yardsticks

pytestmark = pytest.mark.heavy

CARD = """---
license: Apache-2.0
title: {zh: 小模型, en: A small model}
summary: {zh: 权重取自一个种子, en: Its weights are drawn from a seed}
provenance: made by the tests
contact: nobody@example.org
tasks: [tests]
intended_use: tests
limitations: it understands nothing
---
# A model
"""


def released(
    gateway: Gateway, reviewers: list[Any], slug: str, files: dict[str, bytes], task: str, records: list[Any]
) -> str:
    """A release of these files as a model, evaluated on these records, voted on and published."""
    foundation, owner = gateway.foundation, gateway.owner

    def committed(kind: str, named: str, given: dict[str, bytes], lineage: list[Any]) -> tuple[str, str]:
        asset = foundation.asset(owner, gateway.org, named, kind, visibility="public")
        brought = [
            foundation.bring(owner, gateway.org, path, content, component=_component(path, kind))
            for path, content in given.items()
        ]
        made = owner.verb("hub:revision:commit", asset=asset, message="as it is", files=brought, lineage=lineage)
        return asset, made["id"]

    given = {"README.md": yardsticks.card(task), "records.jsonl": yardsticks.lines(records)}
    _, yardstick = committed("dataset", f"{slug}-yardstick", given, [])
    lineage = [{"revision": yardstick, "relation": "evaluated-on"}]
    asset, revision = committed("model", slug, {**files, "README.md": CARD.encode()}, lineage)
    draft = owner.verb("hub:release:draft", asset=asset, revision=revision, name="1.0.0")["id"]
    release = owner.verb("hub:release:submit", release=draft)["id"]
    wait_for(lambda: _evaluated(gateway, release), seconds=120)
    case = wait_for(lambda: next(iter(gateway.operator.read("ethics:case:list", release=release)["items"]), None))
    for reviewer in reviewers:
        reviewer.verb("ethics:vote:cast", case=case["id"], choice="approve", rationale="sound")
    return gateway.operator.verb("hub:release:publish", release=release)["id"]


def _component(path: str, kind: str) -> str:
    if path == "README.md":
        return "model-card" if kind == "model" else "data-card"
    if kind == "dataset":
        return "evaluation-data"
    return "parameters" if path.endswith((".onnx", ".gguf")) else "model-metadata"


def _evaluated(gateway: Gateway, release: str) -> bool | None:
    answer = gateway.operator.http.get(f"/api/v1/ethics/evaluation/{release}")
    if answer.status_code == 404 or answer.json()["state"] == "queued":
        return None
    assert answer.json()["state"] == "done", answer.text
    return True


def engine(gateway: Gateway, endpoint: str) -> dict[str, Any] | None:
    items = gateway.operator.read("serving:engine:list")["items"]
    return next((each for each in items if each["endpoint"] == endpoint), None)


def ready(gateway: Gateway, endpoint: str) -> bool | None:
    found = engine(gateway, endpoint)
    return True if found and found["state"] == "ready" else None


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return tiny_models.embedder()


@pytest.fixture(scope="module")
def reviewers(gateway: Gateway) -> list[Any]:
    return [gateway.foundation.person(f"reviewer-{number}", "*", "reviewer") for number in (1, 2)]


@pytest.fixture(scope="module")
def release(gateway: Gateway, reviewers: list[Any], files: dict[str, bytes]) -> str:
    return released(gateway, reviewers, "embedder", files, "retrieval", yardsticks.pairs())


@pytest.fixture(scope="module")
def endpoint(gateway: Gateway, release: str) -> str:
    made = gateway.operator.verb("serving:endpoint:host", release=release, name="embedder")
    assert (made["engine"], made["release"], made["base_url"]) == ("onnx", release, "")
    targets = [{"endpoint": made["id"], "model": "embedder"}]
    gateway.route("embedder", kind="embeddings", targets=targets)
    wait_for(lambda: ready(gateway, made["id"]))
    return made["id"]


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


def test_a_release_becomes_an_endpoint_by_one_verb_and_is_charged_to_the_token(
    gateway: Gateway, endpoint: str, client: openai.OpenAI, files: dict[str, bytes]
) -> None:
    texts = ["公器", "the quick brown fox", "data flow back"]
    answer = client.embeddings.with_raw_response.create(model="embedder", input=texts)
    vectors = [each.embedding for each in answer.parse().data]
    rows = [tiny_models.tokens(files, text) for text in texts]
    for row, vector in zip(rows, vectors, strict=True):
        want = tiny_models.expected(files, row).mean(axis=0)
        assert numpy.allclose(vector, want / numpy.linalg.norm(want), atol=1e-6)
    tokens = sum(map(len, rows))
    record = gateway.settled(answer.headers["x-request-id"])
    assert (record["input_tokens"], record["output_tokens"], record["is_estimated"]) == (tokens, 0, False)
    assert record["cost_nanos"] == tokens * INPUT_NANOS and record["ending"] == "complete"


def test_what_an_engine_does_is_told_to_prometheus_and_shown_to_operators_alone(
    gateway: Gateway, endpoint: str, client: openai.OpenAI
) -> None:
    client.embeddings.create(model="embedder", input=["one", "two", "three"])
    told = wait_for(lambda: found if (found := engine(gateway, endpoint) or {}).get("rows", 0) >= 3 else None)
    assert told["batches"] >= 1 and told["memory_bytes"] > 1 << 20 and told["restarts"] == 0
    exposed = gateway.operator.http.get("/metrics").text
    labels = '{endpoint="embedder",engine="onnx"}'
    assert f"gongqi_engine_ready{labels} 1.0" in exposed
    assert f"gongqi_engine_rows_total{labels} {float(told['rows'])}" in exposed
    for name in ("restarts_total", "memory_bytes", "waiting", "batches_total"):
        assert f"gongqi_engine_{name}{labels} " in exposed
    operator = gateway.foundation.sign_in(gateway.operator.read("members:me:show")["id"])
    for who, status in ((operator, 200), (gateway.owner, 403)):
        answer = httpx.get(f"{gateway.url}/serving/engines", cookies={"gongqi_session": who.secret}, trust_env=False)
        assert answer.status_code == status
        assert ("embedder" in answer.text) == (status == 200)


def test_what_the_model_refuses_is_passed_on_and_costs_nothing(
    gateway: Gateway, endpoint: str, client: openai.OpenAI
) -> None:
    for given in ({"input": ""}, {"input": "公器", "dimensions": 3}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="embedder", **given)  # type: ignore[call-overload]
        assert str(caught.value.code).startswith(("serving.embeddings-", "serving.dimensions-"))
        record = gateway.settled(caught.value.response.headers["x-request-id"])
        assert record["cost_nanos"] == 0


@pytest.mark.long
def test_another_server_answers_while_the_engine_is_away(
    gateway: Gateway, endpoint: str, client: openai.OpenAI
) -> None:
    targets = [
        {"endpoint": endpoint, "model": "embedder", "rank": 0},
        {"endpoint": gateway.endpoint, "model": "vectors", "rank": 1},
    ]
    gateway.route("either", kind="embeddings", targets=targets)
    assert len(client.embeddings.create(model="either", input="公器").data[0].embedding) == 16
    process = gateway.foundation.kernel.part(Host)._kept[endpoint].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert client.embeddings.create(model="either", input="公器", encoding_format="float").data[0].embedding == [
        0.1,
        0.2,
    ]
    with pytest.raises(openai.InternalServerError):
        client.embeddings.create(model="embedder", input="公器")
    wait_for(lambda: ready(gateway, endpoint))

    def back() -> bool | None:
        found = client.embeddings.create(model="either", input="公器", encoding_format="float")
        return True if len(found.data[0].embedding) == 16 else None

    wait_for(back)


# ---- models that write: `make test-engines` installs what they need


@pytest.fixture(scope="module")
def talker(gateway: Gateway, reviewers: list[Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("llama_cpp", reason="make test-engines installs it")
    pytest.importorskip("gguf", reason="make test-engines installs it")
    content = tiny_models.writer(tmp_path_factory.mktemp("gguf"), context=16_384, ends=False)
    records = yardsticks.questions()
    published = released(gateway, reviewers, "talker", {"talker.gguf": content}, "multiple-choice", records)
    made = gateway.operator.verb("serving:endpoint:host", release=published, name="talker", context_tokens=16_384)["id"]
    targets = [{"endpoint": made, "model": "talker"}]
    gateway.route("talker", targets=targets, context_tokens=16_384, output_tokens=16_000)
    wait_for(lambda: ready(gateway, made))
    return made


ASKED: Any = [{"role": "user", "content": "公器"}]
PROMPT = len("<s>") - 2 + len("<user>公器</user><assistant>".encode())  # tokens: a mark, and bytes


def test_a_model_that_writes_is_charged_to_the_token(gateway: Gateway, talker: str, client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model="talker", messages=ASKED, max_tokens=40, seed=1)
    told = answer.parse()
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (PROMPT, 40)
    assert told.choices[0].finish_reason == "length" and told.choices[0].message.content
    again = client.chat.completions.create(model="talker", messages=ASKED, max_tokens=40, seed=1)
    assert again.choices[0].message.content == told.choices[0].message.content
    record = gateway.settled(answer.headers["x-request-id"])
    assert (record["input_tokens"], record["output_tokens"], record["is_estimated"]) == (PROMPT, 40, False)
    assert record["cost_nanos"] == PROMPT * INPUT_NANOS + 40 * OUTPUT_NANOS


def test_its_stream_says_the_same_and_costs_the_same(gateway: Gateway, talker: str, client: openai.OpenAI) -> None:
    wishes: Any = {"model": "talker", "messages": ASKED, "max_tokens": 40, "seed": 1}
    whole = client.chat.completions.create(**wishes).choices[0].message.content
    chunks = list(client.chat.completions.create(**wishes, stream=True, stream_options={"include_usage": True}))
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == whole
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 40
    id, told = gateway.stream("talker", max_tokens=40, seed=1)
    assert told[-1] == "[DONE]" and not any(each.get("usage") for each in told[:-1])
    record = gateway.settled(id)
    assert (record["input_tokens"], record["output_tokens"], record["is_estimated"]) == (PROMPT, 40, False)


def test_completions_responses_and_messages_are_answered_too(
    gateway: Gateway, talker: str, client: openai.OpenAI
) -> None:
    told = client.completions.create(model="talker", prompt="once", max_tokens=9, seed=1)
    assert told.usage is not None and (told.usage.prompt_tokens, told.usage.completion_tokens) == (5, 9)
    response = client.responses.create(model="talker", input="公器", max_output_tokens=9)
    assert response.usage is not None and response.usage.output_tokens == 9 and response.output_text
    with gateway.http() as http:
        body = {"model": "talker", "max_tokens": 9, "messages": ASKED}
        message = http.post("/v1/messages", json=body).json()
    assert message["usage"]["output_tokens"] == 9 and message["stop_reason"] == "max_tokens"


def test_what_it_cannot_do_is_passed_on(gateway: Gateway, talker: str, client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for wish in ({"tools": [tool]}, {"n": 2}):
        with pytest.raises(openai.BadRequestError, match="cannot do") as caught:
            client.chat.completions.create(model="talker", messages=ASKED, max_tokens=5, **wish)  # type: ignore[call-overload]
        assert caught.value.code == "serving.engine-lacks"


@pytest.mark.long
def test_one_that_is_killed_while_it_writes_is_paid_for_what_it_delivered_and_comes_back(
    gateway: Gateway, talker: str, client: openai.OpenAI
) -> None:
    process = gateway.foundation.kernel.part(Host)._kept[talker].process
    assert process is not None
    stream = client.chat.completions.create(model="talker", messages=ASKED, max_tokens=15_000, stream=True)
    count = 0
    with pytest.raises(openai.APIError) as caught:
        for _ in stream:
            count += 1
            if count == 20:
                os.kill(process.pid, signal.SIGKILL)
    assert caught.value.code == "serving.broken-off"
    record = gateway.settled(stream.response.headers["x-request-id"])
    assert record["ending"] == "cut" and record["input_tokens"] == 0
    assert 10 < record["output_tokens"] <= count + 1 and record["is_estimated"]
    wait_for(lambda: ready(gateway, talker))
    wait_for(lambda: _answers(client))


def _answers(client: openai.OpenAI) -> bool | None:
    try:
        return bool(client.chat.completions.create(model="talker", messages=ASKED, max_tokens=3).choices)
    except openai.InternalServerError:  # its server is left alone for a moment
        return None


@pytest.mark.long
def test_a_caller_that_leaves_stops_the_writing(gateway: Gateway, talker: str, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="talker", messages=ASKED, max_tokens=15_000, stream=True)
    next(iter(stream))
    stream.close()
    began = time.monotonic()
    assert client.chat.completions.create(model="talker", messages=ASKED, max_tokens=3).choices, "it is its turn"
    record = gateway.settled(stream.response.headers["x-request-id"])
    assert record["ending"] == "client-gone" and record["output_tokens"] < 15_000
    assert time.monotonic() - began < 60
