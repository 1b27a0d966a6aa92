"""What must always hold of the ground; the machine looks for the counter-example."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gongqi.kernel.access import Vocabulary
from gongqi.kernel.clock import SystemClock
from gongqi.kernel.db import UtcTime
from gongqi.kernel.events import EventRow
from gongqi.kernel.gates import Answer, Answerer, Gate, Verdict
from gongqi.kernel.ids import mint
from gongqi.kernel.money import MAX_AMOUNT, split
from gongqi.kernel.room import House
from gongqi.kernel.verbs import Input, Output, Paged, digest_of

# Splitting

amounts = st.integers(0, MAX_AMOUNT)
weights = st.dictionaries(st.text(max_size=3), st.integers(0, 10**9), min_size=1, max_size=12).filter(
    lambda table: sum(table.values()) > 0
)


@given(amounts, weights)
def test_the_parts_of_a_split_sum_to_the_whole_and_none_is_off_by_a_unit(amount, weights):
    parts = split(amount, weights)
    total = sum(weights.values())
    assert sum(parts.values()) == amount
    assert parts.keys() == weights.keys()
    for key, part in parts.items():
        assert part >= 0
        assert abs(part * total - amount * weights[key]) < total
        assert weights[key] > 0 or part == 0


def running(series, weights):
    """What each has got after each of the amounts, divided one on top of the other."""
    paid = dict.fromkeys(weights, 0)
    for amount in series:
        parts = split(amount, weights, paid)
        paid = {key: paid[key] + parts[key] for key in weights}
        yield amount, parts, dict(paid)


serieses = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 10**6)), max_size=60)


@given(serieses, weights)
def test_after_any_series_nobody_is_off_by_a_unit_and_no_total_ever_fell(series, weights):
    total, whole = 0, sum(weights.values())
    for amount, parts, paid in running(series, weights):
        total += amount
        assert sum(parts.values()) == amount and sum(paid.values()) == total
        for key, weight in weights.items():
            assert parts[key] >= 0
            assert abs(paid[key] * whole - total * weight) < whole


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 40), min_size=1, max_size=8).filter(lambda w: any(w.values()))
)
def test_a_series_of_single_units_comes_to_the_weights_themselves(weights):
    *_, (_, _, paid) = running([1] * sum(weights.values()), weights)
    assert paid == weights


@given(amounts, weights, st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_its_weights(amount, weights, dice):
    shuffled = list(weights.items())
    dice.shuffle(shuffled)
    assert split(amount, dict(shuffled)) == split(amount, weights)


@given(amounts, weights)
def test_a_heavier_weight_never_gets_less(amount, weights):
    parts = split(amount, weights)
    for heavy in weights:
        for light in weights:
            assert weights[heavy] <= weights[light] or parts[heavy] >= parts[light]


# Gates

answers = st.builds(
    Answer, st.sampled_from(["allow", "deny", "require"]), st.sampled_from(["a", "b", "c"]), evidence=st.none()
)
verdicts = st.dictionaries(st.sampled_from("pqrst"), st.lists(answers, max_size=4), max_size=5)


@given(verdicts, st.lists(answers, max_size=4))
def test_one_more_answerer_never_turns_a_deny_into_an_allow_nor_removes_a_duty(given_answers, more):
    before, after = Verdict("g", given_answers), Verdict("g", {**given_answers, "one more": more})
    assert after.allowed <= before.allowed
    assert [each for each in before.duties if each not in after.duties] == []
    assert [each for each in before.denials if each not in after.denials] == []
    assert before.as_json()["allowed"] is before.allowed


@given(verdicts, st.randoms(use_true_random=False))
def test_answers_join_in_any_order(given_answers, dice):
    shuffled = list(given_answers.items())
    dice.shuffle(shuffled)
    one, other = Verdict("g", given_answers), Verdict("g", dict(shuffled))
    assert one.allowed == other.allowed
    assert sorted(map(repr, one.duties)) == sorted(map(repr, other.duties))


@pytest.fixture
def bare(build):
    """A kernel with no rooms."""
    return build(House.build([], Vocabulary({})))


def test_asking_joins_all_answerers_of_the_house(bare):
    """The same law through `ctx.ask`: of every subset of answerers, a larger one allows no more than a smaller one."""
    gate = Gate("g", Question)
    all_answerers = [
        Answerer(gate, decision + str(number), lambda ctx, question, d=decision: [Answer(d, question.why)])
        for number, decision in enumerate(("allow", "deny", "require", "allow"))
    ]
    subsets = [list(chosen) for size in range(5) for chosen in combinations(all_answerers, size)]
    verdict = {}
    for chosen in subsets:
        bare.house.answerers["g"] = chosen
        verdict[frozenset(each.source for each in chosen)] = bare.look(lambda ctx: ctx.ask(gate, Question("why")))
    for small, its in verdict.items():
        for large, other in verdict.items():
            if small <= large:
                assert other.allowed <= its.allowed
                assert {source for source, _ in its.duties} <= {source for source, _ in other.duties}


@dataclass(frozen=True, slots=True)
class Question:
    why: str


# Time

seconds = st.floats(-1e8, 1e8, allow_nan=False)


@given(st.lists(st.tuples(seconds, st.floats(0, 1e5)), min_size=1, max_size=30))
def test_the_clock_never_goes_back_however_the_wall_jumps(moves):
    wall, steady = [1.8e9], [0.0]
    with mock.patch.object(time, "time", lambda: wall[0]), mock.patch.object(time, "monotonic", lambda: steady[0]):
        clock = SystemClock()
        last = clock.now()
        for jump, passed in moves:
            wall[0] += jump
            steady[0] += passed
            now = clock.now()
            assert now >= last
            assert (now - last).total_seconds() >= passed - 1e-4  # nor does it lose what has truly passed
            last = now


FIRST, LAST = datetime(1900, 1, 1), datetime(2200, 1, 1)  # noqa: DTZ001 - Hypothesis wants naive bounds
moments = st.datetimes(FIRST, LAST, timezones=st.just(UTC))


@given(moments, moments)
def test_times_are_stored_exactly_and_in_order(one, other):
    column, dialect = UtcTime(), mock.sentinel.any_dialect
    stored = [column.process_bind_param(moment, dialect) for moment in (one, other)]
    assert [column.process_result_value(number, dialect) for number in stored] == [one, other]
    assert (stored[0] < stored[1]) == (one < other)  # type: ignore[operator]


later_by = st.timedeltas(timedelta(milliseconds=2), timedelta(days=900))


@given(moments.filter(lambda moment: moment.year >= 1970), later_by)
def test_ids_sort_by_when_they_were_minted(moment, later):
    assert mint("x", moment) < mint("x", moment + later)


# Paging


class EventOut(Output):
    id: str


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    before=st.integers(0, 12),
    limit=st.integers(1, 5),
    inserts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8),
)
def test_paging_shows_each_row_once_while_others_are_written(bare, before, limit, inserts):
    subject = secrets.token_hex(8)  # each example reads only what it wrote
    now = datetime(2026, 1, 1, tzinfo=UTC)
    written: list[str] = []

    def insert(count: int) -> None:
        fresh = [mint("evt", now) for _ in range(count)]
        written.extend(fresh)
        bare.db.write(
            lambda session: session.add_all(
                EventRow(id=id, kind="k", subject=subject, payload={}, emitted_at=now) for id in fresh
            )
        )

    insert(before)
    there_at_the_start, shown, cursor, coming = set(written), [], None, iter(inserts)
    while True:
        page: Any = bare.look(
            lambda ctx, cursor=cursor: ctx.page(
                select(EventRow).where(EventRow.subject == subject), EventRow.id, Paged(limit=limit, cursor=cursor),
                to=EventOut,
            )
        )  # fmt: skip
        assert len(page.items) <= limit
        shown += [item.id for item in page.items]
        cursor = page.next
        if cursor is None:
            break
        count, later = next(coming, (0, 0))
        now += timedelta(milliseconds=later)
        insert(count)
    assert len(shown) == len(set(shown))
    assert shown == sorted(shown, reverse=True)
    assert there_at_the_start <= set(shown) <= set(written)


# Digests


class Loose(Input):
    value: dict[str, int | str | list[int]]


@given(st.dictionaries(st.text(max_size=4), st.integers(-9, 9) | st.lists(st.integers(0, 9), max_size=3), max_size=5))
def test_a_payload_has_one_digest_in_whatever_order_its_fields_come(value):
    value = {key.replace("\0", ""): each for key, each in value.items()}
    backwards = dict(reversed(value.items()))
    assert digest_of(Loose(value=value)) == digest_of(Loose(value=backwards))
    swapped = [Loose(value={**value, "new": one, "other": two}) for one, two in ((1, 2), (2, 1))]
    assert digest_of(swapped[0]) != digest_of(swapped[1])
