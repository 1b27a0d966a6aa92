"""What a model's page says of its calls adds up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from gongqi.resources.serving import watch
from gongqi.resources.serving.metering import ENDINGS

NOW = datetime(2026, 11, 30, 12, 34, 56, tzinfo=UTC)
counts = st.integers(0, 10**6)


class Row(NamedTuple):
    at: datetime
    ending: str
    duration_us: int
    first_byte_us: int | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_nanos: int
    unit: str
    repeats: str | None


times = st.integers(0, 24 * 3600 - 1).map(lambda seconds: NOW - timedelta(seconds=seconds))
rows = st.lists(
    st.builds(
        Row, times, st.sampled_from(ENDINGS), counts, st.none() | counts, counts, counts, counts, counts,
        st.sampled_from(["CNY-fen", "credit"]), st.none() | st.just("gen_1"),
    ),
    max_size=30,
)  # fmt: skip


@given(rows)
def test_every_call_is_in_one_hour_one_ending_and_one_unit(calls: list[Row]) -> None:
    day = watch.summed(calls, NOW, is_cut=False)
    assert sum(hour[1] for hour in day.hours) == day.calls == len(calls)
    assert sum(count for _, count in day.endings) == len(calls)
    assert sum(hour[2] for hour in day.hours) == day.faults <= len(calls)
    assert sum(hour[3] for hour in day.hours) == day.input_tokens + day.output_tokens
    assert sum(day.cost_nanos.values()) == sum(call.cost_nanos for call in calls)
    assert len(day.hours) == watch.HOURS and day.hours[-1][0] <= NOW < day.hours[-1][0] + timedelta(hours=1)


@given(st.lists(counts, min_size=1, max_size=50), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[int], part: int) -> None:
    [found] = watch.percentiles(values, (part,))
    assert found in values
    within = sum(value <= found for value in values)
    assert 100 * within >= part * len(values)
    assert 100 * sum(value < found for value in values) < part * len(values)
