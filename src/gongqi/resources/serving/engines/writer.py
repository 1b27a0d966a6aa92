"""A model that writes: llama.cpp over one GGUF file. Prompts to tokens, tokens to steps of text, one conversation at a time.

The template of conversations is the file's own; a model that has none completes texts and refuses conversations. Nothing
is kept from one call to the next: what another caller's prompt left in memory would be felt by its speed.

Source: llama-cpp-python 0.3 (`Llama.generate`).
"""

from __future__ import annotations

import codecs
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gongqi.kernel.errors import Refused
from gongqi.resources.serving.engines.template import Template

MAX_THREADS = 8
PIECE_BYTES = 256  # of one token; longer ones are asked for again
TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to choose the next token, as OpenAI names it; `top_k` and `min_p` are llama.cpp's, and choose among all at 0.
    `schema` is JSON for the form of the answer, "" for any JSON at all."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logprobs: int | None = None  # how many others to name beside each token
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Likely:
    """A token that might stand here, and the logarithm of how likely that was."""

    text: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Step:
    """One token: its bytes, and if it was asked for, how likely it was and what else was."""

    text: bytes
    chosen: Likely | None = None
    others: tuple[Likely, ...] = ()


class Writer:
    """To be used by one thread at a time. Raises Refused serving.engine-unloadable."""

    def __init__(self, model: Path, *, context_tokens: int, threads: int | None = None) -> None:
        import llama_cpp  # pyright: ignore[reportMissingImports] - an extra

        self._c = llama_cpp
        threads = threads or min(MAX_THREADS, os.cpu_count() or 1)
        try:
            self._llama = llama_cpp.Llama(
                str(model), n_ctx=context_tokens, n_threads=threads, n_threads_batch=threads, verbose=False
            )
            self._inner = self._llama._model
            self.context = min(self._llama.n_ctx(), self._inner.n_ctx_train())
        except Exception as error:  # the library raises what comes
            raise Refused("serving.engine-unloadable", reason="llama.cpp", detail=str(error)[:2000]) from error
        self.template = self._own_template()
        for _ in self.steps(self.prompt("公器"), Wishes(), 1):  # the first run, before any caller's
            pass

    def tokens(self, text: str) -> list[int]:
        """Of a conversation as the template wrote it, with whatever marks that set."""
        return self._llama.tokenize(text.encode(), add_bos=False, special=True)

    def prompt(self, text: str) -> list[int]:
        """Of a text to go on from."""
        return self._llama.tokenize(text.encode(), add_bos=bool(self._inner.add_bos_token()), special=True)

    @property
    def vocabulary(self) -> int:
        return self._inner.n_vocab()

    def steps(self, tokens: Sequence[int], wishes: Wishes, limit: int) -> Iterator[Step]:
        """Up to `limit` tokens, fewer when the model ends by itself.

        Raises Refused serving.schema-unusable.
        """
        llama = self._llama
        llama.reset()
        llama.set_seed(secrets.randbits(32) if wishes.seed is None else wishes.seed & 0xFFFFFFFF)
        chosen = llama.generate(
            tokens, temp=wishes.temperature, top_p=wishes.top_p, top_k=wishes.top_k, min_p=wishes.min_p,
            frequency_penalty=wishes.frequency_penalty, presence_penalty=wishes.presence_penalty,
            grammar=None if wishes.schema is None else _grammar(wishes.schema),
        )  # fmt: skip
        for count, token in enumerate(chosen, 1):
            if self._c.llama_vocab_is_eog(self._inner.vocab, token):
                return
            yield self._step(token, wishes.logprobs)
            if count >= limit:
                return

    def likelihoods(self, start: Sequence[int], endings: Sequence[Sequence[int]]) -> list[float]:
        """The logarithm of how likely each ending is after the start, which is run once for all; neither is empty."""
        llama, begun = self._llama, len(start)
        llama.reset()
        llama.eval(start)
        first, found = self._logprobs(), []
        for ending in endings:
            total = float(first[ending[0]])
            for place, token in enumerate(ending[1:]):
                if place == 0:
                    llama.n_tokens = begun
                    if not llama._ctx.kv_cache_seq_rm(-1, begun, -1):  # a state that cannot be cut is made again
                        llama.reset()
                        llama.eval(start)
                llama.eval([ending[place]])
                total += float(self._logprobs()[token])
            found.append(total)
        return found

    def _own_template(self) -> Template | None:
        text = self._llama.metadata.get(TEMPLATE)
        if text is None:
            return None
        return Template(
            text, bos_token=self._name(self._llama.token_bos()), eos_token=self._name(self._llama.token_eos())
        )

    def _name(self, token: int) -> str:
        """How a template writes it; a model may have no such token."""
        return self._inner.token_get_text(token) if token >= 0 else ""

    def _step(self, token: int, others: int | None) -> Step:
        text = self._piece(token)
        if others is None:
            return Step(text)
        import numpy

        logprobs = self._logprobs()
        best = numpy.argsort(-logprobs)[:others]
        named = tuple(Likely(self._piece(int(each)), float(logprobs[each])) for each in best)
        return Step(text, Likely(text, float(logprobs[token])), named)

    def _logprobs(self) -> Any:
        """Of each token of the vocabulary, to come next."""
        import numpy

        logits = numpy.ctypeslib.as_array(self._llama._ctx.get_logits_ith(-1), shape=(self.vocabulary,))
        logprobs = logits - logits.max()
        logprobs -= numpy.log(numpy.exp(logprobs).sum())
        return logprobs

    def _piece(self, token: int) -> bytes:
        import ctypes

        size = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._c.llama_token_to_piece(self._inner.vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length


def _grammar(schema: str) -> Any:
    from llama_cpp import llama_grammar  # pyright: ignore[reportMissingImports]

    try:
        if schema == "":
            return llama_grammar.LlamaGrammar.from_string(llama_grammar.JSON_GBNF)
        return llama_grammar.LlamaGrammar.from_json_schema(schema)
    except Exception as error:  # whatever a schema may be
        raise Refused("serving.schema-unusable", why=type(error).__name__) from error


class Text:
    """Steps put together: characters whole, and held back as long as they may be the beginning of what ends the answer."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.has_stopped = False

    def feed(self, piece: bytes) -> str:
        """What may be said now."""
        self._held += self._decoder.decode(piece)
        ends = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if ends:
            self.has_stopped = True
            said, self._held = self._held[: min(ends)], ""
            return said
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        said, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return said

    def end(self) -> str:
        """What was held back for nothing."""
        said = "" if self.has_stopped else self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        return said


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text begin the other."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
