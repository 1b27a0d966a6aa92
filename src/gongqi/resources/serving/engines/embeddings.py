"""OpenAI's embeddings, answered by a model in this process.

A text longer than the model is cut where the model ends, as the tools that trained it do; what is charged is what was run.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.engines.batches import Batches
from gongqi.resources.serving.engines.door import Visit
from gongqi.resources.serving.engines.encoder import Encoder
from gongqi.resources.serving.plane.request import decoded

PATH = "/v1/embeddings"
MAX_INPUTS = 2048  # as OpenAI has it
MAX_VALUES = {"float": 2_500_000, "base64": 5_000_000}  # of an answer, which the gateway holds whole


class Asked(msgspec.Struct):
    input: str | list[str | int | list[int]]
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


_decoder = msgspec.json.Decoder(Asked)


class Embeddings:
    """The API of one model."""

    paths = (PATH,)

    def __init__(self, encoder: Encoder, loop: asyncio.AbstractEventLoop) -> None:
        self._encoder = encoder
        self._batches = Batches(encoder.vectors, loop)

    @property
    def waiting(self) -> int:
        return self._batches.waiting_tokens

    @property
    def done(self) -> tuple[int, int]:
        return self._batches.batches, self._batches.rows

    @property
    def since(self) -> float | None:
        return self._batches.since

    async def attend(self, visit: Visit) -> None:
        await visit.answer(await self.answer(visit.body))

    async def answer(self, body: bytes) -> bytes:
        """Raises Refused: serving.request-unreadable, serving.embeddings-invalid, serving.embeddings-too-many,
        serving.dimensions-fixed; Unavailable."""
        asked = decoded(_decoder, body)
        if asked.dimensions not in (None, self._encoder.dimensions):
            raise Refused("serving.dimensions-fixed", wanted=asked.dimensions, dimensions=self._encoder.dimensions)
        inputs = _inputs(asked.input)
        limit = min(MAX_INPUTS, max(1, MAX_VALUES[asked.encoding_format] // self._encoder.dimensions))
        if len(inputs) > limit:
            raise Refused("serving.embeddings-too-many", count=len(inputs), limit=limit)
        rows = await asyncio.to_thread(self._rows, inputs)
        vectors = await self._batches.vectors(rows)
        return await asyncio.to_thread(_document, asked, vectors, sum(map(len, rows)))

    def _rows(self, inputs: Sequence[Any]) -> list[Sequence[int]]:
        if isinstance(inputs[0], str):
            rows: list[Sequence[int]] = list(self._encoder.tokens(inputs))
        else:
            rows = [row[: self._encoder.max_tokens] for row in inputs]
            if any(not 0 <= token < self._encoder.vocabulary for row in rows for token in row):
                raise _invalid("token")
        if not all(rows):
            raise _invalid("empty")
        return rows


def _inputs(given: Any) -> Sequence[Any]:
    """Texts, or lists of tokens: one of the two, and at least one."""
    if isinstance(given, str):
        given = [given]
    if not given:
        raise _invalid("empty")
    kinds = {type(each) for each in given}
    if len(kinds) > 1:
        raise _invalid("mixed")
    if kinds == {int}:
        given = [given]
    if not all(isinstance(each, int) or each for each in given):
        raise _invalid("empty")
    return given


def _invalid(why: str) -> Refused:
    return Refused("serving.embeddings-invalid", why=why)


def _document(asked: Asked, vectors: Sequence[Any], tokens: int) -> bytes:
    if asked.encoding_format == "base64":
        vectors = [b64encode(vector.astype("<f4").tobytes()).decode("ascii") for vector in vectors]
    data = [{"object": "embedding", "index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    document = {"object": "list", "data": data, "model": asked.model, "usage": usage}
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
