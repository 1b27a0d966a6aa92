"""The law of limits a minute: however many processes draw rations, together they do no more than one could."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gongqi.resources.serving import rates
from gongqi.resources.serving.plane.limits import Gauge
from gongqi.resources.serving.plane.snapshot import Key
from gongqi.resources.serving.rates import MINUTE, Answer, Bucket, Want

limits = st.integers(1, 500)
steps = st.lists(
    st.tuples(
        st.integers(0, 40_000),  # milliseconds since the step before
        st.integers(0, 3),  # which process
        st.sampled_from(["call", "call", "call", "idle"]),
        st.integers(1, 60),  # tokens that a call is expected to take
        st.integers(0, 60),  # of which so many come back
    ),
    min_size=1,
    max_size=60,
)


@given(limits, limits, steps, st.lists(st.integers(-5_000, 5_000), min_size=4, max_size=4))
def test_whatever_processes_do_in_any_time_is_within_one_bucket_its_refill_and_a_ration_each(
    requests: int, tokens: int, doings: list[Any], skews: list[int]
) -> None:
    given = (requests, tokens)
    gauges = [Gauge(Key("mkey", "o", "p", None, requests, tokens, 64, 0.0), 0.0) for _ in skews]
    buckets = [rates.full(limit, 0) for limit in given]
    spent: list[list[tuple[int, int]]] = [[], []]
    now = 10_000
    for pause, place, does, amount, back in doings:
        now += pause
        gauge = gauges[place]
        hands, needs = (gauge.requests, gauge.tokens), (1, min(amount, tokens))
        gauge.leaves = does == "idle"
        for hand, need in zip(hands, needs, strict=True):
            if not gauge.leaves and hand.left < need:
                hand.need(need)
        ask = gauge.ask()
        answers = []
        for number, want in enumerate((ask.requests, ask.tokens)):
            buckets[number], drawn = rates.draw(buckets[number], given[number], now + skews[place], want)
            answers.append(drawn)
        gauge.drawn(ask, Answer(*answers), now / 1000)
        if gauge.leaves:
            assert not any(hand.left for hand in hands)
        elif all(hand.left >= need for hand, need in zip(hands, needs, strict=True)):
            for number, (hand, need) in enumerate(zip(hands, needs, strict=True)):
                used = need - min(back, need) * number
                hand.left -= used
                spent[number].append((now, used))
        for hand in hands:
            assert 0 <= hand.left <= max(hand.ration, tokens)
    apart = max(skews) - min(skews)
    for number, limit in enumerate(given):
        for first in range(len(spent[number])):
            done = 0
            for at, amount in spent[number][first:]:
                done += amount
                time = at - spent[number][first][0] + apart
                in_hand = 4 * max(rates.ration(limit), tokens * number)  # what was drawn for a call that had no request
                assert done * MINUTE <= limit * (MINUTE + time) + in_hand * MINUTE


wants = st.builds(Want, st.integers(-300, 300), st.integers(0, 600), st.integers(0, 600))


@given(limits, st.lists(st.tuples(st.integers(-1_000, 90_000), wants), max_size=30))
def test_nothing_is_rounded_and_what_is_owed_is_waited_for(limit: int, draws: list[tuple[int, Want]]) -> None:
    bucket, now, known = rates.full(limit, 0), 0, 0
    for pause, want in draws:
        now += pause
        refilled = bucket.level + limit * max(0, now - bucket.at)
        before = min(limit * MINUTE, min(limit * MINUTE, refilled) + want.back * MINUTE)
        bucket, drawn = rates.draw(bucket, limit, now, want)
        known = max(known, now)
        assert bucket == Bucket(before - drawn.granted * MINUTE, known)
        assert drawn.granted == 0 or want.least <= drawn.granted <= max(want.least, want.most)
        if drawn.wait:
            later, then = rates.draw(bucket, limit, max(now, known) + drawn.wait, Want(0, want.least, want.least))
            assert drawn.granted == 0 and then.granted == want.least
            assert later.level >= min(0, limit - want.least) * MINUTE
            _, early = rates.draw(bucket, limit, max(now, known) + drawn.wait - 1, Want(0, want.least, want.least))
            assert early.granted == 0, "and not a millisecond longer"
