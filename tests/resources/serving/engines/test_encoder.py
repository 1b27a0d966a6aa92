"""Vectors as the model's own files say: its tokenizer, its pooling, its length; and what cannot be run is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.serving.engines.encoder import Encoder
from tests.resources.serving.engines.conftest import by_part
from tests.sim import tiny_models


def encoder(**changes: Any) -> tuple[Encoder, dict[str, bytes]]:
    files = tiny_models.embedder(**changes)
    return Encoder(by_part(files)), files


def changed(files: Mapping[str, bytes], path: str, **fields: Any) -> dict[str, bytes]:
    """With other fields in one of its descriptions."""
    return by_part({**files, path: json.dumps(json.loads(files[path]) | fields).encode()})


def reason(files: Mapping[str, bytes]) -> str:
    with pytest.raises(Refused) as caught:
        Encoder(files)
    assert caught.value.code == "serving.engine-unloadable"
    return str(caught.value.params["reason"])


def pooled(state: Any, mode: str) -> Any:
    """The poolings once more, from one row without padding."""
    steps = numpy.arange(1, len(state) + 1)[:, None]
    return {
        "cls_token": lambda: state[0],
        "max_tokens": lambda: state.max(axis=0),
        "mean_tokens": lambda: state.mean(axis=0),
        "mean_sqrt_len_tokens": lambda: state.sum(axis=0) / len(state) ** 0.5,
        "weightedmean_tokens": lambda: (state * steps).sum(axis=0) / steps.sum(),
        "lasttoken": lambda: state[-1],
    }[mode]()


MODES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


@pytest.mark.parametrize("modes", [*((mode,) for mode in MODES), ("cls_token", "mean_tokens")], ids="+".join)
@pytest.mark.parametrize("normalizes", [False, True])
def test_vectors_are_pooled_as_the_model_says_whatever_stands_beside_them(modes: tuple, normalizes: bool) -> None:
    model, files = encoder(modes=modes, normalizes=normalizes)
    rows = model.tokens(["公器", "the quick brown fox jumps over the lazy dog", "0"])
    assert model.dimensions == 16 * len(modes)
    for row, vector in zip(rows, model.vectors(rows), strict=True):
        want = numpy.concatenate([pooled(tiny_models.expected(files, row), mode) for mode in modes])
        want = want / numpy.linalg.norm(want) if normalizes else want
        assert numpy.allclose(vector, want, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 150), min_size=1, max_size=64), min_size=1, max_size=12))
def test_a_row_has_the_same_vector_alone_and_in_any_company(rows: list[list[int]]) -> None:
    together = MODEL.vectors(rows)
    alone = numpy.concatenate([MODEL.vectors([row]) for row in rows])
    assert numpy.allclose(together, alone, atol=1e-5)


MODEL = encoder()[0]


def test_newer_files_name_their_pooling_by_a_word(embedder: dict[str, bytes]) -> None:
    named = {**embedder, "1_Pooling/config.json": json.dumps({"pooling_mode": "lasttoken"}).encode()}
    assert Encoder(by_part(named))._modes == ["lasttoken"]


def test_a_text_is_cut_where_the_model_ends_and_not_filled_up(embedder: dict[str, bytes]) -> None:
    assert [len(row) for row in MODEL.tokens(["公器 " * 500, "公器"])] == [64, 4]
    shorter = Encoder(changed(embedder, "config.json", max_position_embeddings=32))
    assert len(shorter.tokens(["公器 " * 500])[0]) == 32
    unlimited = changed(embedder, "sentence_bert_config.json", max_seq_length=10**30)
    assert Encoder(unlimited).max_tokens == 128  # as many as it has places for


def test_what_is_not_said_is_not_guessed(embedder: dict[str, bytes]) -> None:
    files = by_part(embedder)
    assert reason({part: files[part] for part in files if part != "pooling"}) == "1_Pooling/config.json"
    none = {f"pooling_mode_{mode}": False for mode in MODES}
    assert reason(changed(embedder, "1_Pooling/config.json", **none)) == "1_Pooling/config.json"
    assert reason(changed(embedder, "1_Pooling/config.json", pooling_mode="lucky")) == "1_Pooling/config.json"
    dense = [{"type": "sentence_transformers.models.Dense"}]
    assert reason(files | {"modules": json.dumps(dense).encode()}) == "modules.json: Dense"


@pytest.mark.parametrize("part", ["model", "tokenizer", "config", "modules"])
def test_what_is_no_such_file_is_said_by_its_part(embedder: dict[str, bytes], part: str) -> None:
    assert reason(by_part(embedder) | {part: b"{" * 2_000}) == {"model": "onnx"}.get(part, part)


def test_a_model_of_something_else_is_refused(embedder: dict[str, bytes]) -> None:
    from tests.sim.market import onnx_model

    assert reason(by_part(embedder) | {"model": onnx_model()}) == "it takes features"


def test_a_run_that_fails_or_gives_no_numbers_is_said() -> None:
    for row in ([10**6], [0] * 200):  # no such word, no such place
        with pytest.raises(Unavailable) as caught:
            MODEL.vectors([row])
        assert caught.value.code == "serving.run-failed"
