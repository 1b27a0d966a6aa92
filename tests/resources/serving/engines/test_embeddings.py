"""OpenAI's embeddings: what is asked, what is answered, what is refused and in which words."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy
import pytest

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.engines import embeddings as module
from gongqi.resources.serving.engines.embeddings import Embeddings
from gongqi.resources.serving.engines.encoder import Encoder
from tests.resources.serving.engines.conftest import by_part
from tests.sim import tiny_models

MODEL = Encoder(by_part(tiny_models.embedder()))


def ask(**asked: Any) -> dict[str, Any]:
    async def asking() -> bytes:
        return await Embeddings(MODEL, asyncio.get_running_loop()).answer(json.dumps({"model": "m"} | asked).encode())

    return json.loads(asyncio.run(asking()))


def refused(**asked: Any) -> str:
    with pytest.raises(Refused) as caught:
        ask(**asked)
    return caught.value.code


def test_usage_is_the_tokens_that_were_run() -> None:
    made = ask(input=["公器", "the quick brown fox", "公器 " * 500])
    assert made["usage"] == {"prompt_tokens": 4 + 6 + 64, "total_tokens": 4 + 6 + 64}
    assert [each["index"] for each in made["data"]] == [0, 1, 2] and made["model"] == "m"


def test_a_text_alone_a_list_and_its_tokens_have_one_vector() -> None:
    tokens = MODEL.tokens(["公器"])[0]
    for given in (["公器"], tokens, [tokens]):
        assert numpy.allclose(ask(input=given)["data"][0]["embedding"], ask(input="公器")["data"][0]["embedding"])


def test_base64_is_the_same_numbers() -> None:
    plain = ask(input="公器")["data"][0]["embedding"]
    packed = base64.b64decode(ask(input="公器", encoding_format="base64")["data"][0]["embedding"])
    assert numpy.frombuffer(packed, "<f4").tolist() == numpy.array(plain, "f4").tolist()


def test_dimensions_are_those_of_the_model() -> None:
    assert len(ask(input="公器", dimensions=16)["data"][0]["embedding"]) == 16
    assert refused(input="公器", dimensions=8) == "serving.dimensions-fixed"


@pytest.mark.parametrize(
    "given", ["", [], [""], ["a", ""], [[]], ["a", 1], [[1], 2], [["a"]], [10**9], [-1], [[10**9]]]
)
def test_what_cannot_be_embedded_is_refused(given: Any) -> None:
    assert refused(input=given) in ("serving.embeddings-invalid", "serving.request-unreadable")


@pytest.mark.parametrize("asked", [{}, {"input": None}, {"input": "a", "encoding_format": "hex"}, {"input": {"a": 1}}])
def test_what_is_no_request_is_unreadable(asked: dict[str, Any]) -> None:
    assert refused(**asked) == "serving.request-unreadable"


def test_an_answer_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(input=["a"] * 2049) == "serving.embeddings-too-many"
    monkeypatch.setattr(module, "MAX_VALUES", {"float": 32, "base64": 64})
    assert refused(input=["a"] * 3) == "serving.embeddings-too-many"
    assert len(ask(input=["a"] * 3, encoding_format="base64")["data"]) == 3
