"""Requests that are written together share a commit and nothing else: each gets its own answer, whatever the others are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.doors.web.batches import Batches
from tests.doors.conftest import count_notes

WAIT_SECONDS = 20


def answers(batches: Batches[int, Any], questions: Sequence[int]) -> list[Any]:
    async def ask() -> list[Any]:
        asked = (batches.answer(question) for question in questions)
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), WAIT_SECONDS)

    return asyncio.run(ask())


@settings(deadline=None)  # of threads, which a busy machine may let wait
@given(count=st.integers(0, 60), lanes=st.integers(1, 4), size=st.integers(1, 9))
def test_every_question_gets_its_own_answer_once_and_no_batch_is_too_large(count: int, lanes: int, size: int) -> None:
    seen: list[Sequence[int]] = []

    def work(batch: Sequence[int]) -> list[int]:
        seen.append(batch)
        return [-question for question in batch]

    assert answers(Batches(work, lanes=lanes, size=size), range(count)) == [-n for n in range(count)]
    assert sorted(n for batch in seen for n in batch) == list(range(count))
    assert all(0 < len(batch) <= size for batch in seen)


def test_what_arrives_while_a_lane_is_busy_goes_together() -> None:
    started, seen = threading.Event(), []

    def work(batch: Sequence[int]) -> Sequence[int]:
        seen.append(list(batch))
        started.wait(WAIT_SECONDS)  # the first batch is under way until all the others have come
        return batch

    async def ask() -> None:
        batches = Batches(work, lanes=1, size=8)
        asked = [asyncio.ensure_future(batches.answer(0))]
        await asyncio.sleep(0.05)
        asked += [asyncio.ensure_future(batches.answer(n)) for n in range(1, 6)]
        await asyncio.sleep(0.05)
        started.set()
        assert await asyncio.wait_for(asyncio.gather(*asked), WAIT_SECONDS) == list(range(6))

    asyncio.run(ask())
    assert seen == [[0], [1, 2, 3, 4, 5]]


def test_a_batch_that_breaks_breaks_for_those_in_it_and_the_lane_goes_on() -> None:
    def work(batch: Sequence[int]) -> Sequence[int]:
        if 3 in batch:
            raise RuntimeError("broken")
        return batch

    batches = Batches(work, lanes=1, size=1)
    found = answers(batches, range(6))
    assert [n for n, answer in enumerate(found) if isinstance(answer, RuntimeError)] == [3]
    assert answers(batches, [7, 8]) == [7, 8]


def test_who_leaves_while_waiting_holds_up_nobody() -> None:
    gate = threading.Event()

    def work(batch: Sequence[int]) -> Sequence[int]:
        gate.wait(WAIT_SECONDS)
        return batch

    async def ask() -> list[int]:
        batches = Batches(work, lanes=1, size=4)
        first, leaver, last = (asyncio.ensure_future(batches.answer(n)) for n in range(3))
        await asyncio.sleep(0.05)
        leaver.cancel()
        gate.set()
        return await asyncio.wait_for(asyncio.gather(first, last), WAIT_SECONDS)

    assert asyncio.run(ask()) == [0, 2]


def test_verbs_written_together_are_answered_apart(served, town) -> None:
    good = {"org": town.org, "text": "kept"}
    cases = [
        (good, town.auth, 200),
        ({"org": town.org}, town.auth, 422),  # no text
        (good, {}, 401),
        (good, {"authorization": "Bearer gq_false"}, 401),
        ({"org": "org_other", "text": "x"}, town.auth, 200),
        (good, town.auth | {"if-match": '"v1"'}, 400),
    ]

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=served.url) as http:
            return await asyncio.gather(
                *(http.post("/api/v1/guild/note/create", json=body, headers=headers) for body, headers, _ in cases * 8)
            )

    found = [answer.status_code for answer in asyncio.run(ask())]
    assert found == [status for *_, status in cases * 8]
    assert town.kernel.look(count_notes) == 2 * 8


def test_a_verb_that_breaks_beside_others_takes_none_of_them_along(served, town) -> None:
    with httpx.Client(base_url=served.url, headers=town.auth) as http:
        note = town.note(http)["id"]

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=served.url, headers=town.auth, timeout=30) as http:
            acts = [("break", {"note": note}), ("edit", {"note": note, "text": "later"})] * 10
            sent = (http.post(f"/api/v1/guild/note/{act}", json=body) for act, body in acts)
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    assert asyncio.run(ask()) == [500, 200] * 10


@pytest.mark.heavy
@pytest.mark.parametrize("count", [1, 64, 200])
def test_a_verb_asked_many_times_at_once_acts_as_often(served, town, count: int) -> None:
    async def ask() -> set[str]:
        async with httpx.AsyncClient(base_url=served.url, headers=town.auth, timeout=30) as http:
            body = {"org": town.org, "text": "again"}
            sent = (http.post("/api/v1/guild/note/create", json=body) for _ in range(count))
            return {answer.json()["id"] for answer in await asyncio.gather(*sent)}

    assert len(asyncio.run(ask())) == count
