"""A model of embeddings: texts to tokens by its own tokenizer, tokens to vectors by ONNX Runtime, pooled as its files say.

What is not said is not guessed: a graph that gives a vector for each token and no `1_Pooling/config.json` is not served,
because vectors that are pooled otherwise than in training are wrong without looking wrong. A graph that gives one vector
for a text has its pooling inside, and is taken as it is.

Sources: sentence-transformers 5 (`models/Pooling.py`, `modules.json`), `tokenizer.json` of the library `tokenizers`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.resources.serving.engines.parts import MODEL, TOKENIZER

MAX_THREADS = 8
DEFAULT_TOKENS = 512  # of a text, where no file of the model says
MAX_TOKENS = 8192
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
POOLED = "sentence_embedding"  # as Optimum names the vector of a whole text
# In the order in which sentence-transformers joins them, where a model has several.
MODES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
_BY_WORD = {mode.partition("_t")[0]: mode for mode in MODES} | {"lasttoken": "lasttoken"}  # as newer files have them


def open_session(model: bytes, threads: int) -> Any:
    """A session over these bytes. What ONNX Runtime says against them is of a type that it does not export."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what matters comes as an exception
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Encoder:
    """`tokens`, then `vectors`: safe from several threads. Raises Refused serving.engine-unloadable when it is made of
    what is no such model."""

    def __init__(self, files: Mapping[str, bytes], *, threads: int | None = None) -> None:
        import tokenizers

        self._session = _loaded("onnx", open_session, files[MODEL], threads or min(MAX_THREADS, os.cpu_count() or 1))
        self._inputs = [node.name for node in self._session.get_inputs()]
        if unknown := set(self._inputs) - set(INPUTS):
            raise _unloadable(f"it takes {min(unknown)[:100]}")
        ranks = {node.name: len(node.shape or ()) for node in self._session.get_outputs()}
        self._output = POOLED if POOLED in ranks else _first(ranks, 3) or _first(ranks, 2)
        if not self._output:
            raise _unloadable("it gives no vectors")
        settings = {part: _object(part, files[part]) for part in files if part not in (MODEL, TOKENIZER)}
        self._modes: list[str] = []
        self._normalizes = False
        if ranks[self._output] == 3:
            self._modes = _modes(settings.get("pooling"))
            self._normalizes = _normalizes(settings.get("modules"))
        self._tokenizer = _loaded("tokenizer", tokenizers.Tokenizer.from_buffer, files[TOKENIZER])
        self.max_tokens = _max_tokens(settings, self._tokenizer)
        self._tokenizer.no_padding()  # which is done batch by batch
        self._tokenizer.enable_truncation(self.max_tokens)
        self.vocabulary: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.dimensions = int(self.vectors(self.tokens(["公器 gongqi"])).shape[1])  # the first run, before any caller's

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """With what the tokenizer puts before and after, cut where the model ends."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def vectors(self, rows: Sequence[Sequence[int]]) -> Any:
        """FP32 [rows, dimensions]. Raises Unavailable serving.run-failed."""
        import numpy

        lengths = numpy.array([len(row) for row in rows])
        width = int(lengths.max())
        ids = numpy.zeros((len(rows), width), numpy.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
        mask = (numpy.arange(width) < lengths[:, None]).astype(numpy.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        try:
            [output] = self._session.run([self._output], {name: given[name] for name in self._inputs})
        except Exception as error:  # as in `open_session`
            raise Unavailable("serving.run-failed", retry_after_seconds=5, detail=str(error)[:2000]) from error
        if self._modes:
            output = numpy.concatenate([_pooled(mode, output, mask, lengths) for mode in self._modes], axis=1)
        if self._normalizes:
            output = output / numpy.maximum(numpy.linalg.norm(output, axis=1, keepdims=True), 1e-12)
        if output.shape[0] != len(rows) or not numpy.isfinite(output).all():
            raise Unavailable("serving.run-failed", retry_after_seconds=5, detail="not a finite vector for each text")
        return output.astype(numpy.float32, copy=False)


def _pooled(mode: str, output: Any, mask: Any, lengths: Any) -> Any:
    import numpy

    if mode == "cls_token":
        return output[:, 0]
    if mode == "lasttoken":
        return output[numpy.arange(len(lengths)), lengths - 1]
    if mode == "max_tokens":
        return numpy.where(mask[:, :, None], output, -numpy.inf).max(axis=1)
    weights = mask.astype(output.dtype)
    if mode == "weightedmean_tokens":
        weights = weights * numpy.arange(1, mask.shape[1] + 1, dtype=output.dtype)
    total = numpy.einsum("btd,bt->bd", output, weights)
    count = weights.sum(axis=1, keepdims=True)
    return total / (numpy.sqrt(count) if mode == "mean_sqrt_len_tokens" else count)


def _modes(pooling: Any) -> list[str]:
    if pooling is None:
        raise _unloadable("1_Pooling/config.json")
    if isinstance(word := pooling.get("pooling_mode"), str):
        found = [_BY_WORD.get(word, "")]
    else:
        found = [mode for mode in MODES if pooling.get(f"pooling_mode_{mode}") is True]
    if not found or "" in found:
        raise _unloadable("1_Pooling/config.json")
    return found


def _normalizes(modules: Any) -> bool:
    """Whether a step after the pooling brings vectors to length one; a step that is not known here is refused."""
    steps = [str(each.get("type", "")).rpartition(".")[2] for each in modules or () if isinstance(each, dict)]
    if unknown := set(steps) - {"Transformer", "Pooling", "Normalize"}:
        raise _unloadable(f"modules.json: {min(unknown)[:100]}")
    return "Normalize" in steps


def _max_tokens(settings: Mapping[str, Any], tokenizer: Any) -> int:
    """What the model's files say first, but never more than the graph has places for, nor than MAX_TOKENS."""
    asked = (
        settings.get("sentences", {}).get("max_seq_length"), settings.get("tokenizer-settings", {}).get("model_max_length"),
        (tokenizer.truncation or {}).get("max_length"),
    )  # fmt: skip
    places = _sensible(settings.get("config", {}).get("max_position_embeddings"))
    found = next((said for said in map(_sensible, asked) if said), places or DEFAULT_TOKENS)
    return min(found, places or found, MAX_TOKENS)


def _sensible(said: Any) -> int:
    return said if isinstance(said, int) and 2 < said < 10**9 else 0  # "no limit" is written as 10³⁰


def _object(part: str, content: bytes) -> Any:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list if part == "modules" else dict):
        raise _unloadable(part)
    return found


def _first(ranks: Mapping[str, int], rank: int) -> str:
    return next((name for name, has in ranks.items() if has == rank), "")


def _loaded(what: str, load: Any, *given: Any) -> Any:
    try:
        return load(*given)
    except Exception as error:  # each library has types of its own
        raise _unloadable(what, detail=str(error)[:2000]) from error


def _unloadable(reason: str, *, detail: str | None = None) -> Refused:
    return Refused("serving.engine-unloadable", reason=reason, detail=detail)
