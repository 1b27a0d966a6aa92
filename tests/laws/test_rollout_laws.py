"""The laws of roll-outs: the share is exact, a new server no worse than the old seldom comes back, one that is worse does,
and no process sends more calls into faults than its brake allows."""

from __future__ import annotations

import random
from itertools import accumulate, product
from math import exp, isclose

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gongqi.resources.serving import climbing
from gongqi.resources.serving.climbing import (
    ALARM,
    BRAKE_FAULTS,
    BRAKE_GOOD,
    HUNDRED,
    RULES,
    WORSE,
    Brake,
    Pair,
    Share,
    Side,
)

percents = st.integers(1, HUNDRED)
rates = st.floats(0.001, 0.9)


@given(st.text(max_size=20), percents, st.integers(0, 400), st.integers(1, 1000))
def test_of_any_calls_in_a_row_the_share_goes_to_the_new_server(
    name: str, percent: int, start: int, count: int
) -> None:
    share = Share(name, percent)
    taken = [share.takes() for _ in range(start + count)]
    went = sum(taken[start:])
    assert abs(went - count * percent / HUNDRED) <= climbing.bound(percent)
    sums = [0, *accumulate(taken)]
    for hundred in range(0, len(taken) - HUNDRED, HUNDRED):
        assert sums[hundred + HUNDRED] - sums[hundred] == percent, "of each hundred exactly so many"
    again = Share(name, percent)
    assert taken == [again.takes() for _ in taken], "which they are is not left to chance"


@given(percents, percents, st.integers(0, 250))
def test_a_share_that_changes_is_exact_from_there(before: int, after: int, calls: int) -> None:
    share = Share("x", before)
    for _ in range(calls):
        share.takes()
    share.becomes(before)  # nothing has changed, nor does anything begin anew
    kept = Share("x", before)
    for _ in range(calls):
        kept.takes()
    assert [share.takes() for _ in range(HUNDRED)] == [kept.takes() for _ in range(HUNDRED)]
    share.becomes(after)
    if before != after:
        assert sum(share.takes() for _ in range(HUNDRED)) == after


def test_no_rhythm_of_a_caller_falls_in_with_a_share() -> None:
    share = Share("mro_1 plane", 5)
    taken = [share.takes() for _ in range(20_000)]
    for period in (2, 5, 10, 20, 100):
        for phase in range(period):
            seen = taken[phase::period]
            assert abs(sum(seen) / len(seen) - 0.05) < 0.06, "each twentieth call is not always the one"


@given(st.integers(1, 4), st.integers(1, 4), rates, rates, st.floats(0.01, 0.99))
def test_where_the_new_server_is_no_worse_a_look_adds_nothing_on_average(
    n_old: int, n_new: int, usual: float, by: float, rate: float
) -> None:
    worse = climbing._worse(usual, by)
    for rate_new in (rate, rate / 2):
        mean = 0.0
        for faults in product((0, 1), repeat=n_old + n_new):
            k_old, k_new = sum(faults[:n_old]), sum(faults[n_old:])
            chance = rate**k_old * (1 - rate) ** (n_old - k_old) * rate_new**k_new * (1 - rate_new) ** (n_new - k_new)
            mean += chance * exp(climbing.two(usual, worse, n_old, k_old, n_new, k_new))
        assert mean <= 1 + 1e-9
    alone = sum(
        rate**k * (1 - rate) ** (1 - k) * exp(climbing.one(most, climbing._worse(most, by), 1, k))
        for k in (0, 1)
        for most in (max(rate, usual),)
    )
    assert alone <= 1 + 1e-9


def climbed(seed: int, old: float, new: float, *, looks: int, share: float = 0.05, calls: int = 40) -> int | None:
    """After how many calls at the new server it came back, looked at after every `calls` calls or so."""
    rng = random.Random(seed)
    logs = {rule: [0.0] * len(WORSE) for rule in RULES}
    before = Pair()
    for _ in range(looks):
        sums = [[*before.old], [*before.new]]
        for _ in range(rng.randrange(1, 2 * calls)):
            side = rng.random() < share
            fault = rng.random() < (new if side else old)
            for place, more in enumerate((1, fault, fault)):
                sums[side][place] += more
        now = Pair(Side(*sums[0]), Side(*sums[1]))
        percent = HUNDRED if share == 1 else 5
        if climbing.is_comparable(before, now, percent):
            logs = {rule: climbing.weighed(logs[rule], before, now, rule) for rule in RULES}
            before = now
        if any(climbing.is_worse(logs[rule]) for rule in RULES):
            return now.new.calls
    return None


@pytest.mark.heavy
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.3])
def test_equal_servers_seldom_part_however_often_one_looks(rate: float) -> None:
    back = [climbed(seed, rate, rate, looks=300, share=0.25) for seed in range(100)]
    assert sum(each is not None for each in back) <= 5, f"at most {ALARM:.0%} in the long run"


@pytest.mark.parametrize(
    ("old", "new", "calls"), [(0.0, 1.0, 15), (0.01, 0.5, 30), (0.01, 0.15, 160), (0.05, 0.2, 330)]
)
def test_a_worse_server_comes_back_after_few_calls(old: float, new: float, calls: int) -> None:
    found = sorted(climbed(seed, old, new, looks=2000) or 10**9 for seed in range(20))
    assert found[15] <= calls, "three of four times"


def test_at_the_whole_share_it_is_held_against_what_the_old_one_was() -> None:
    logs, before = [0.0] * len(WORSE), Pair(Side(1000, 10, 10), Side(500, 5, 5))
    fine = Pair(before.old, Side(1000, 10, 10))
    assert climbing.is_comparable(before, fine, HUNDRED) and not climbing.is_comparable(before, fine, 50)
    assert not climbing.is_worse(climbing.weighed(logs, before, fine, "faults"))
    ill = Pair(before.old, Side(1000, 60, 60))
    assert climbing.is_worse(climbing.weighed(logs, before, ill, "faults"))
    assert climbing.highest(0, 0) == 0.05 and isclose(climbing.highest(10, 1000), 0.0167, abs_tol=0.0005)


def test_no_count_is_too_large_for_the_comparison() -> None:
    logs, before = [0.0] * len(WORSE), Pair()
    now = Pair(Side(10**9, 0, 0), Side(10**9, 10**9, 10**9))
    assert climbing.is_worse(climbing.weighed(logs, before, now, "faults"))
    assert not climbing.is_worse(climbing.weighed(logs, before, Pair(now.new, now.old), "faults"))


@given(st.lists(st.booleans(), max_size=600))
@example([True, False, *[True] * 20])  # chance finds it one run in some
def test_a_brake_bounds_the_faults_of_a_process_whatever_happens(faults: list[bool]) -> None:
    brake, good, bad = Brake(), 0, 0
    for is_fault in faults:
        if brake.is_full:
            break
        if is_fault:
            brake.fault()
            bad += 1
        else:
            brake.good()
            good += 1
    assert bad <= BRAKE_FAULTS + good / BRAKE_GOOD
    if brake.is_full:
        brake.good()
        assert brake.is_full, "one that is full stays so"


@pytest.mark.parametrize("steps", [(), (0, 100), (5, 5, 100), (50, 25, 100), (5, 25), (5, 101)])
def test_steps_rise_to_the_whole(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="step"):
        climbing.steps_of(steps)
    assert climbing.steps_of([5, 25, 50, 100]) == climbing.STEPS
