"""Models of the hub that the foundation runs itself: one verb, a route, and OpenAI's client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import openai
import pytest

from tests.house.conftest import wait_for
from tests.resources.serving.gateway.conftest import INPUT_NANOS, Gateway
from tests.sim import tiny_models

CARD = """---
license: Apache-2.0
title: {zh: 小模型, en: A small model}
summary: {zh: 权重取自一个种子, en: Its weights are drawn from a seed}
provenance: made by the tests
contact: nobody@example.org
---
# A model
"""


def released(gateway: Gateway, slug: str, files: dict[str, bytes]) -> str:
    """A release of these files, published on every condition but a model's figures: no evaluation knows texts yet."""
    foundation, owner = gateway.foundation, gateway.owner
    asset = foundation.asset(owner, gateway.org, slug, "code", visibility="public")
    brought = [
        foundation.bring(owner, gateway.org, path, content, component=_component(path))
        for path, content in files.items()
    ]
    card = foundation.bring(owner, gateway.org, "README.md", CARD.encode(), component="model-card")
    revision = owner.verb("hub:revision:commit", asset=asset, message="as it is", files=[*brought, card])["id"]
    draft = owner.verb("hub:release:draft", asset=asset, revision=revision, name="1.0.0")["id"]
    reviewers = [
        foundation.person(f"reviewer-{slug}-{number}", "*", "reviewer") for number in (1, 2)
    ]  # before the case
    release = owner.verb("hub:release:submit", release=draft)["id"]
    case = wait_for(lambda: next(iter(gateway.operator.read("ethics:case:list", release=release)["items"]), None))
    for reviewer in reviewers:
        reviewer.verb("ethics:vote:cast", case=case["id"], choice="approve", rationale="sound")
    return gateway.operator.verb("hub:release:publish", release=release)["id"]


def _component(path: str) -> str:
    return "parameters" if path.endswith((".onnx", ".gguf")) else "model-metadata"


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
def release(gateway: Gateway, files: dict[str, bytes]) -> str:
    return released(gateway, "embedder", files)


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
