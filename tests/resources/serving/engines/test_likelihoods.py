"""The likelihood of endings, over a state that is cut back from ending to ending, or cannot be. What llama.cpp itself says
is in test_writer.py; here its state is written out: it holds what it was given, and every wrong cut shows."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.resources.serving.engines.writer import Writer

VOCABULARY = 5


def logits(before: Sequence[int]) -> Any:
    """What follows depends on every token before, and on its place."""
    seed = sum((place + 1) * 31 * (token + 1) for place, token in enumerate(before))
    return np.random.default_rng(seed).standard_normal(VOCABULARY).astype(np.float32)


class State:
    """As much of `llama_cpp.Llama` and its context as likelihoods are made of. A state that is not `cuttable` is that of a
    recurrent model: it can be emptied, and not cut back."""

    def __init__(self, *, cuttable: bool) -> None:
        self.cuttable, self.held, self.n_tokens, self.evaluated = cuttable, [], 0, 0
        self._ctx = self

    def reset(self) -> None:
        self.n_tokens = 0

    def eval(self, tokens: Sequence[int]) -> None:
        self.kv_cache_seq_rm(-1, self.n_tokens, -1)
        assert len(self.held) == self.n_tokens, "each token has its place"
        self.held += tokens
        self.evaluated += len(tokens)
        self.n_tokens += len(tokens)

    def kv_cache_seq_rm(self, sequence: int, start: int, end: int) -> bool:
        if 0 < start < len(self.held) and not self.cuttable:
            return False
        self.held = self.held[:start]
        return True

    def get_logits_ith(self, place: int) -> Any:
        assert place == -1 and self.held
        self.last = logits(self.held)
        return self.last.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


class Inner:
    def n_vocab(self) -> int:
        return VOCABULARY


def writer(*, cuttable: bool) -> Writer:
    made = Writer.__new__(Writer)
    made._llama, made._inner = State(cuttable=cuttable), Inner()
    return made


def one_by_one(start: Sequence[int], ending: Sequence[int]) -> float:
    total = 0.0
    for place, token in enumerate(ending):
        found = logits([*start, *ending[:place]]).astype(np.float64)
        total += found[token] - np.log(np.exp(found).sum())
    return float(total)


TOKENS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=5)


@settings(deadline=None)
@given(start=TOKENS, endings=st.lists(TOKENS, min_size=1, max_size=5), cuttable=st.booleans())
def test_each_ending_is_as_likely_as_if_it_stood_alone(
    start: list[int], endings: list[list[int]], cuttable: bool
) -> None:
    made = writer(cuttable=cuttable)
    want = [one_by_one(start, ending) for ending in endings]
    for _ in range(2):  # and nothing is left from one prompt to the next
        assert made.likelihoods(start, endings) == pytest.approx(want, abs=1e-4)


def test_what_all_endings_share_is_run_once() -> None:
    made = writer(cuttable=True)
    made.likelihoods([1] * 50, [[0], [1], [2], [3, 4], [4, 3]])
    assert made._llama.evaluated == 50 + 2, "an ending of one token costs nothing more"
