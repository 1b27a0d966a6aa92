"""A real model in llama.cpp: real tokens, choices by the wishes, forms by grammar, nothing kept from call to call."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.engines.answers import Chat
from gongqi.resources.serving.engines.writer import Step, Wishes, Writer
from tests.sim import tiny_models

pytest.importorskip("llama_cpp", reason="make test-engines installs it")
pytest.importorskip("gguf", reason="make test-engines installs it")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    folder = tmp_path_factory.mktemp("writer")
    tiny_models.writer(folder, ends=False)
    return Writer(folder / "writer.gguf", context_tokens=4096, threads=1)


def written(writer: Writer, text: str = "公器", limit: int = 30, **wishes: Any) -> list[Step]:
    return list(writer.steps(writer.prompt(text), Wishes(**wishes), limit))


def said(steps: list[Step]) -> bytes:
    return b"".join(step.text for step in steps)


def test_tokens_are_those_of_the_file(writer: Writer) -> None:
    assert writer.prompt("公") == [1, *(byte + 3 for byte in "公".encode())], "a beginning, and bytes"
    assert writer.tokens("<s>a") == [1, ord("a") + 3], "what a template sets as a mark is one"
    assert writer.context == 512, "no more than it was trained for"
    assert writer.vocabulary == 259


def test_a_seed_and_no_heat_repeat_themselves_whatever_was_written_between(writer: Writer) -> None:
    for wishes in ({"seed": 5}, {"temperature": 0.0}):
        first = said(written(writer, **wishes))
        written(writer, "公器 and more", seed=9)
        written(writer, "公", seed=9)
        assert said(written(writer, **wishes)) == first
    assert len({said(written(writer, seed=seed)) for seed in range(5)}) > 1
    assert len({said(written(writer)) for _ in range(5)}) > 1


def test_an_answer_has_as_many_tokens_as_it_may_and_no_more(writer: Writer) -> None:
    assert [len(written(writer, limit=limit, seed=1)) for limit in (1, 2, 30)] == [1, 2, 30]


def test_an_answer_ends_where_the_model_ends_it(tmp_path: Path) -> None:
    tiny_models.writer(tmp_path, ends=True)
    ender = Writer(tmp_path / "writer.gguf", context_tokens=512, threads=1)
    assert min(len(written(ender, limit=200, seed=seed)) for seed in range(20)) < 200


def test_likelihoods_are_those_of_the_choice(writer: Writer) -> None:
    for step in written(writer, temperature=0.0, logprobs=3):
        assert step.chosen is not None and step.chosen == step.others[0], "the likeliest was chosen"
        assert step.chosen.text == step.text
        probabilities = [math.exp(each.logprob) for each in step.others]
        assert sorted(probabilities, reverse=True) == probabilities and sum(probabilities) < 1
    assert written(writer, limit=1)[0].chosen is None


def test_the_likelihood_of_an_ending_is_that_of_its_tokens_one_by_one(writer: Writer) -> None:
    start, steps = writer.prompt("公器"), written(writer, limit=6, temperature=0.0, logprobs=1)
    chosen = [step.text[0] + 3 for step in steps]
    endings = [chosen[:1], chosen, chosen[:3], writer.tokens("zyx"), chosen]
    found = writer.likelihoods(start, endings)
    for count, place in ((1, 0), (6, 1), (3, 2), (6, 4)):
        want = sum(step.chosen.logprob for step in steps[:count] if step.chosen)
        assert found[place] == pytest.approx(want, abs=1e-3), "whatever ending was looked at before"
    assert writer.likelihoods(start, endings[3:4]) == pytest.approx(found[3:4], abs=1e-3)
    one = [writer.likelihoods(start, [[token] for token in range(writer.vocabulary)])]
    assert sum(map(math.exp, one[0])) == pytest.approx(1.0, abs=1e-4), "one token follows"


def test_an_answer_may_be_held_to_a_form(writer: Writer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    told = json.loads(said(written(writer, limit=400, schema=json.dumps(schema), seed=3)))
    assert set(told) == {"a"} and isinstance(told["a"], bool)
    with pytest.raises(Refused) as caught:
        written(writer, schema='{"type": 7}')
    assert caught.value.code == "serving.schema-unusable"


def test_a_conversation_is_written_by_the_file_s_template(writer: Writer) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    tokens = Chat(json.dumps(body).encode()).tokens(writer)
    assert tokens == writer.tokens("<s><user>hi</user><assistant>")


def test_a_file_without_a_template_completes_texts_alone(tmp_path: Path) -> None:
    tiny_models.writer(tmp_path, template=None)
    bare = Writer(tmp_path / "writer.gguf", context_tokens=256, threads=1)
    assert bare.template is None and len(written(bare, limit=5, seed=1)) == 5


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    path = tmp_path / "writer.gguf"
    for content in (b"GGUF", tiny_models.writer(tmp_path)[:50_000]):
        path.write_bytes(content)
        with pytest.raises(Refused) as caught:
            Writer(path, context_tokens=256, threads=1)
        assert caught.value.code == "serving.engine-unloadable"
