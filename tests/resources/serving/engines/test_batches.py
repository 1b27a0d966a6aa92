"""Who waits is joined: rows of all callers in batches, in turn, each caller with its own vectors in its own order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.kernel.errors import Unavailable
from gongqi.resources.serving.engines import batches as module
from gongqi.resources.serving.engines.batches import MAX_ROWS, MAX_TOKENS, Batches


class Ran:
    """Answers each row with its sum, and notes what ran together. `gate` holds the first batch until it is opened."""

    def __init__(self) -> None:
        self.batches: list[list[Sequence[int]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, rows: Sequence[Sequence[int]]) -> list[Any]:
        self.batches.append(list(rows))
        assert self.gate.wait(10)
        if any(row[0] < 0 for row in rows):
            raise Unavailable("serving.run-failed")
        return [sum(row) for row in rows]


def together(ran: Ran, callers: Sequence[Sequence[Sequence[int]]]) -> list[Any]:
    """What each caller gets, all having asked while a first batch ran."""

    async def asking() -> list[Any]:
        batches = Batches(ran, asyncio.get_running_loop())
        ran.gate.clear()
        first = asyncio.ensure_future(batches.vectors([[0]]))
        while not ran.batches:
            await asyncio.sleep(0)
        others = [asyncio.ensure_future(batches.vectors(rows)) for rows in callers]
        await asyncio.sleep(0)
        ran.gate.set()
        await first
        answers = await asyncio.gather(*others, return_exceptions=True)
        assert batches.waiting_tokens == 0 and batches.since is None
        return answers

    return asyncio.run(asking())


ROWS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=40), min_size=1, max_size=70)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, max_size=6))
def test_each_caller_has_its_own_vectors_in_its_own_order(callers: list[list[list[int]]]) -> None:
    ran = Ran()
    assert together(ran, callers) == [[sum(row) for row in rows] for rows in callers]
    for batch in ran.batches:
        assert len(batch) <= MAX_ROWS
        assert len(batch) == 1 or max(map(len, batch)) * len(batch) <= MAX_TOKENS
    assert sum(map(len, ran.batches)) == 1 + sum(map(len, callers)), "each row ran once"


def test_those_who_wait_run_in_one_batch() -> None:
    ran = Ran()
    together(ran, [[[number]] for number in range(20)])
    assert [len(batch) for batch in ran.batches] == [1, 20]


def test_one_row_does_not_wait_for_a_thousand() -> None:
    ran = Ran()
    together(ran, [[[1]] * 1000, [[7]]])
    assert [7] in ran.batches[1], "it is in the next batch"


def test_long_rows_run_in_small_batches() -> None:
    ran = Ran()
    together(ran, [[[1] * 8_000] * 5])
    assert max(map(len, ran.batches)) == 2


def test_a_batch_that_fails_fails_those_in_it_and_no_others() -> None:
    ran = Ran()
    bad, good = together(ran, [[[-1]] * MAX_ROWS, [[5]] * 2 * MAX_ROWS])
    assert isinstance(bad, Unavailable)
    assert isinstance(good, Unavailable), "part of it was in that batch"
    assert together(Ran(), [[[5]]]) == [[5]]


def test_who_leaves_costs_no_more_time() -> None:
    ran = Ran()

    async def asking() -> None:
        batches = Batches(ran, asyncio.get_running_loop())
        ran.gate.clear()
        first = asyncio.ensure_future(batches.vectors([[0]]))
        while not ran.batches:
            await asyncio.sleep(0)
        left = asyncio.ensure_future(batches.vectors([[1]] * 100))
        await asyncio.sleep(0)
        left.cancel()
        ran.gate.set()
        await first
        assert await batches.vectors([[2]]) == [2]
        assert batches.waiting_tokens == 0

    asyncio.run(asking())
    assert sum(map(len, ran.batches)) == 2


def test_the_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_TOKENS", 10)
    first, second, third = together(Ran(), [[[1] * 6], [[1] * 6], [[1] * 4]])
    assert first == [6] and third == [4]
    assert isinstance(second, Unavailable) and second.code == "serving.engine-busy"
