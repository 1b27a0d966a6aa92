"""Drift: none is found where nothing changed, a change is found soon after it began, once, and survives restarts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gongqi.resources.serving import drift
from gongqi.resources.serving.drifting import CLOCK, DELTA, FEWEST, STREAMS, WINDOW, Change, change_in, kept
from tests.sim.talk import Talk

BEFORE, SHIFTED_AT, LATEST = 20_000, 3_000, 1_000  # figures: without a change; until one; until it must be found
LOOK = 200  # figures between two looks


def drawn(seed, name, *, shifted):
    """Draws figures as calls give them: lengths and times are log-normal. `shifted`: doubled, or a sixth or a fifth more."""
    rng = random.Random(f"{seed} {name} {shifted}")
    match name:
        case "input-tokens" | "output-tokens":
            return lambda: int(rng.lognormvariate(5 + 0.7 * shifted, 1))
        case "latency":
            return lambda: int(rng.lognormvariate(13 + 0.7 * shifted, 1))
        case "errors":
            return lambda: int(rng.random() < 0.05 + 0.15 * shifted)
    return lambda: int(rng.random() < 0.3 + 0.2 * shifted)


def watched(name: str, figures: list[int]) -> list[tuple[int, Change]]:
    """(after how many figures it was found, the change), looking as the flow does."""
    window, found, gone = [], [], 0
    for start in range(0, len(figures), LOOK):
        window += figures[start : start + LOOK]
        if change := change_in(name, window):
            found.append((start + LOOK, change._replace(begins=gone + change.begins)))
            window = window[change.begins :]
            gone = start + LOOK - len(window)
        else:
            window = kept(window)
            gone = start + LOOK - len(window)
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("name", STREAMS)
def test_no_alarm_where_nothing_changed(name):
    for seed in range(2):
        draw = drawn(seed, name, shifted=False)
        assert watched(name, [draw() for _ in range(BEFORE)]) == []


@pytest.mark.parametrize("name", STREAMS)
def test_one_alarm_soon_after_a_change_which_says_when_and_what(name):
    for seed in range(2):
        old, new = drawn(seed, name, shifted=False), drawn(seed, name, shifted=True)
        figures = [old() for _ in range(SHIFTED_AT)] + [new() for _ in range(2 * LATEST)]
        [(found, change)] = watched(name, figures)
        assert SHIFTED_AT < found <= SHIFTED_AT + LATEST
        assert abs(change.begins - SHIFTED_AT) < LATEST / 2
        stream = STREAMS[name]
        assert change.before < change.after and stream.is_told(change.before, change.after)


def test_a_change_too_small_to_speak_of_is_none():
    rng = random.Random(1)
    figures = [100 + rng.randrange(3) for _ in range(2000)] + [110 + rng.randrange(3) for _ in range(2000)]
    assert change_in("input-tokens", figures) is None
    figures += [150 + rng.randrange(3) for _ in range(2000)]
    change = change_in("input-tokens", figures)
    assert change is not None and (change.before, change.after) == (111, 151), "of what was before it, not of all"


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 10**18), max_size=300))
def test_whatever_the_figures_a_change_has_a_before_and_an_after(name, figures):
    figures = [figure % 2 if STREAMS[name].is_share else figure for figure in figures]
    change = change_in(name, figures)
    assert change is None or (change.before_count > 0 and change.after_count > 0 and change.begins < len(figures))
    assert all(0 <= STREAMS[name].scaled(figure) <= 1 for figure in figures)


@given(st.lists(st.integers(0, 9), max_size=3 * WINDOW // 2))
def test_a_window_is_bounded_and_keeps_the_latest(figures):
    left = kept(figures)
    assert len(left) <= WINDOW and left == figures[len(figures) - len(left) :]


def test_the_core_that_is_used_is_the_adwin_of_the_library():
    from river.drift import ADWIN  # and scikit-learn with it

    rng = random.Random(7)
    values = [rng.random() / 2 for _ in range(800)] + [0.3 + rng.random() / 2 for _ in range(800)]
    public = ADWIN(delta=DELTA, clock=CLOCK, max_buckets=5, min_window_length=FEWEST, grace_period=2 * FEWEST)
    places = []
    for place, value in enumerate(values):
        public.update(value)
        if public.drift_detected:
            places.append(place)
    from gongqi.resources.serving.drifting import AdaptiveWindowing

    core = AdaptiveWindowing(delta=DELTA, clock=CLOCK, max_buckets=5, min_window_length=FEWEST, grace_period=2 * FEWEST)
    assert places[0] == next(place for place, value in enumerate(values) if core.update(value))


# ---- in the house


@pytest.fixture
def talk(market):
    return Talk(market)


def calls(talk, clock, route, batches, *, tokens, seed=0, **more):
    """Batches of calls, each in the books and looked at."""
    rng = random.Random(seed)
    for _ in range(batches):
        lengths = [int(rng.lognormvariate(tokens, 0.5)) for _ in range(100)]
        talk.called(route, count=100, input_tokens=lengths, **more)
        look(talk, clock)


def look(talk, clock):
    clock.advance(seconds=drift.SETTLED_SECONDS + drift.WATCH_EVERY_SECONDS)
    talk.market.work(sweep=True)


def found(talk, **query):
    return talk.market.ask(talk.market.operator, "serving:drift:list", **query).items


@pytest.mark.heavy
def test_a_drift_of_what_is_asked_is_found_once_with_evidence_and_an_event(talk, clock):
    route = talk.route()
    calls(talk, clock, route, 6, tokens=5)
    assert found(talk) == []
    calls(talk, clock, route, 6, tokens=6, seed=1)
    [row] = found(talk)
    assert (row.route, row.stream, row.org) == (route.id, "input-tokens", talk.market.orgs["foundation"])
    assert 130 < row.before < 170 and 350 < row.after < 450
    [told] = talk.market.evidence("serving.drift-found")
    assert (told.id, told.subject, told.facts) == (row.evidence, row.id, {"route": route.id, "stream": "input-tokens"})
    assert talk.market.ask(talk.market.operator, "serving:drift:get", drift=row.id) == row


def test_what_is_kept_between_looks_is_bounded_and_names_nobody(talk, clock):
    route = talk.route()
    talk.called(route, count=200)
    look(talk, clock)
    talk.called(route, count=drift.SAMPLE + 50)
    look(talk, clock)
    watch = talk.market.kernel.look(lambda ctx: ctx.session.get(drift.DriftWatch, route.id))
    assert set(watch.streams) == set(STREAMS)
    assert len(watch.streams["input-tokens"]) == 200 + drift.SAMPLE, "of many calls at once a sample"
    assert all(type(figure) is int for figures in watch.streams.values() for figure in figures)


@pytest.mark.heavy
def test_ratings_that_turn_are_a_drift_too(talk, clock):
    route = talk.route()
    rng = random.Random(3)
    for share in (0.1,) * 4 + (0.7,) * 4:
        for call in talk.called(route, count=50):
            talk.say(route, call, rating="down" if rng.random() < share else "up")
        look(talk, clock)
    [row] = [each for each in found(talk) if each.stream == "down-ratings"]
    assert row.before < 200_000 < 500_000 < row.after


def test_a_rating_that_is_only_carried_on_is_counted_once(talk, clock):
    route = talk.route()
    [call] = talk.called(route)
    for said in ({"rating": "down"}, {"correction": "no"}, {"rating": "down"}, {"rating": "up"}):
        clock.advance(seconds=1)
        talk.say(route, call, **said)
    look(talk, clock)
    watch = talk.market.kernel.look(lambda ctx: ctx.session.get(drift.DriftWatch, route.id))
    assert watch.streams["down-ratings"] == [1, 0]


@pytest.mark.heavy
def test_calls_that_fail_are_a_drift(talk, clock):
    route = talk.route()
    for failing in (0,) * 3 + (40,) * 3:
        talk.called(route, count=100, ending=["cut"] * failing + ["complete"] * (100 - failing))
        look(talk, clock)
    assert [row.stream for row in found(talk)] == ["errors"]


def test_two_looks_at_once_count_the_calls_once(talk, clock):
    route = talk.route()
    talk.called(route, count=100)
    clock.advance(seconds=drift.SETTLED_SECONDS + 1)
    kernel = talk.market.kernel
    first, second = (kernel.look(lambda ctx: drift.news_of(ctx, route.id)) for _ in range(2))
    for news in (first, second):
        kernel.transact(lambda ctx, news=news: drift.judge(ctx, news), reason="test")
    watch = kernel.look(lambda ctx: ctx.session.get(drift.DriftWatch, route.id))
    assert len(watch.streams["input-tokens"]) == 100


@pytest.mark.heavy
def test_a_drift_is_seen_by_who_offers_the_model_and_by_nobody_else(talk, clock):
    route = talk.route()
    calls(talk, clock, route, 4, tokens=5)
    calls(talk, clock, route, 4, tokens=6.5, seed=1)
    market = talk.market
    assert len(market.ask(market.owner("foundation"), "serving:drift:list").items) == 1
    assert market.ask(market.owner("application"), "serving:drift:list").items == []
