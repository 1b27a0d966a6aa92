"""Laws of the split: every unit goes somewhere, to nobody less than nothing, and over time to each what is theirs."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gongqi.economy.credits import rules
from gongqi.economy.credits.rules import SHARES, WHOLE, Claim, Receivers, claims, divide

fees = st.integers(0, 2**53 - 1)
cuts = st.lists(st.integers(0, WHOLE), min_size=4, max_size=4).map(sorted)
weightings = cuts.map(
    lambda at: dict(zip(SHARES, (b - a for a, b in zip([0, *at], [*at, WHOLE], strict=True)), strict=True))
)
datasets = st.dictionaries(
    st.text("abcdefgh0123", min_size=1, max_size=6), st.sampled_from(["org_a", "org_b", "org_c"]), max_size=8
)


def receivers(data: dict[str, str]) -> Receivers:
    return Receivers("org_host", "org_lab", data, "org_host", "org_f")


def parts_of(fee, weights, to) -> list[tuple[Claim, int]]:
    """A fee divided when nothing was before."""
    found = claims(weights, to)
    return list(zip(found, divide(fee, found, [0] * len(found)), strict=True))


@given(weightings, datasets)
def test_the_claims_are_the_whole_and_none_is_to_nothing(weights, data):
    rules.check_weights(weights)
    found = claims(weights, receivers(data))
    assert sum(claim.weight for claim in found) == 1 and all(claim.weight > 0 for claim in found)


@given(fees, weightings, datasets)
def test_the_parts_are_the_fee_to_the_unit_and_none_is_negative(fee, weights, data):
    parts = parts_of(fee, weights, receivers(data))
    assert sum(amount for _, amount in parts) == fee
    assert all(amount >= 0 for _, amount in parts)


@given(fees, weightings, datasets, st.randoms(use_true_random=False))
def test_the_order_of_anything_changes_nothing(fee, weights, data, chance: random.Random):
    def shuffled(given):
        return dict(chance.sample(list(given.items()), len(given)))

    one, other = claims(weights, receivers(data)), claims(shuffled(weights), receivers(shuffled(data)))
    assert one == other and rules.digest(one) == rules.digest(other)
    assert parts_of(fee, weights, receivers(data)) == parts_of(fee, shuffled(weights), receivers(shuffled(data)))


@given(weightings, weightings, datasets, datasets)
def test_only_equal_claims_share_a_tally(weights, others, data, more):
    one, other = claims(weights, receivers(data)), claims(others, receivers(more))
    assert (one == other) == (rules.digest(one) == rules.digest(other))


def series_of(given_fees, found):
    """After each fee: all fees so far, what each claim got of this one, and of all."""
    total, paid = 0, [0] * len(found)
    for fee in given_fees:
        amounts = divide(fee, found, paid)
        total, paid = total + fee, [before + amount for before, amount in zip(paid, amounts, strict=True)]
        yield total, amounts, paid


def by_account(found, values) -> dict[tuple[str, str], Any]:
    sums: dict[tuple[str, str], Any] = {}
    for claim, value in zip(found, values, strict=True):
        sums[claim.account] = sums.get(claim.account, 0) + value
    return sums


serieses = st.lists(st.one_of(st.integers(1, 5), st.integers(1, 100_000)), max_size=40)


@given(serieses, weightings, datasets)
def test_after_any_series_of_fees_every_account_has_its_exact_share_to_within_a_unit(given_fees, weights, data):
    found = claims(weights, receivers(data))
    due = by_account(found, [claim.weight for claim in found])
    for total, amounts, paid in series_of(given_fees, found):
        got = by_account(found, paid)
        assert sum(paid) == total and min(amounts) >= 0
        assert all(abs(got[account] - total * due[account]) < 1 for account in got)
        for claim, amount in zip(found, paid, strict=True):  # within an account, of what the account got
            assert abs(amount - got[claim.account] * claim.weight / due[claim.account]) < 1


@given(serieses, weightings, datasets)
def test_a_series_divided_again_is_divided_the_same(given_fees, weights, data):
    found = claims(weights, receivers(data))
    assert list(series_of(given_fees, found)) == list(series_of(given_fees, claims(weights, receivers(data))))


@pytest.mark.long
@given(weightings, datasets)
@settings(max_examples=20, deadline=None)
def test_fees_of_one_unit_come_to_the_policy_itself(weights, data):
    """The smallest fee there is, ten thousand times: nobody lives on what others are not paid."""
    found = claims(weights, receivers(data))
    *_, (_, _, paid) = series_of([1] * WHOLE, found)
    due = by_account(found, [WHOLE * claim.weight for claim in found])
    assert all(abs(amount - due[account]) < 1 for account, amount in by_account(found, paid).items())


def paid_for(fee, weights, data) -> dict[str, int]:
    """asset → what it got."""
    paid = dict.fromkeys(data, 0)
    for claim, amount in parts_of(fee, weights, receivers(data)):
        if claim.share == "datasets":
            assert claim.asset is not None and claim.owner == data[claim.asset]
            paid[claim.asset] += amount
    return paid


def by_owner(paid, data) -> dict[str, int]:
    return {owner: sum(paid[asset] for asset in data if data[asset] == owner) for owner in data.values()}


@given(fees, weightings, datasets)
def test_donors_of_data_and_each_ones_datasets_are_paid_alike_to_within_one_unit(fee, weights, data):
    paid = paid_for(fee, weights, data)
    owners = by_owner(paid, data)
    of_each = [[paid[asset] for asset in data if data[asset] == owner] for owner in owners]
    assert all(max(amounts) - min(amounts) <= 1 for amounts in [list(owners.values()), *of_each] if amounts)


@given(fees, weightings, datasets.filter(bool), st.integers(1, 20))
def test_cutting_a_dataset_into_many_takes_nothing_from_other_donors(fee, weights, data, pieces):
    cutter = min(data.values())
    cut = data | {f"piece-{number}": cutter for number in range(pieces)}
    assert by_owner(paid_for(fee, weights, cut), cut) == by_owner(paid_for(fee, weights, data), data)


edges = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 8), st.sampled_from(["trained-on", "derived-from", rules.EVALUATED_ON]))
    .filter(lambda edge: edge[0] > edge[1])
    .map(lambda edge: (f"r{edge[0]}", f"r{edge[1]}", edge[2])),
    max_size=25,
)


@given(edges, st.randoms(use_true_random=False))
def test_sources_are_what_is_reached_without_evaluation_in_any_order(given_edges, chance: random.Random):
    found = rules.sources("r9", given_edges)
    assert found == rules.sources("r9", chance.sample(given_edges, len(given_edges)))
    reached = {"r9"}
    for _ in range(10):
        reached |= {source for derived, source, how in given_edges if derived in reached and how != rules.EVALUATED_ON}
    assert set(found) == reached - {"r9"}
