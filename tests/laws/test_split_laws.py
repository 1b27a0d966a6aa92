"""Laws of the split: every unit goes somewhere, to nobody less than nothing, whatever the order."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from gongqi.economy.credits import rules
from gongqi.economy.credits.rules import SHARES, WHOLE, Receivers, divide

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


@given(fees, weightings, datasets)
def test_the_parts_are_the_fee_to_the_unit_and_none_is_negative(fee, weights, data):
    rules.check_weights(weights)
    parts = divide(fee, weights, receivers(data))
    assert sum(part.amount for part in parts) == fee
    assert all(part.amount > 0 for part in parts)


@given(fees, weightings, datasets, st.randoms(use_true_random=False))
def test_the_order_of_anything_changes_nothing(fee, weights, data, chance: random.Random):
    def shuffled(given):
        return dict(chance.sample(list(given.items()), len(given)))

    assert divide(fee, weights, receivers(data)) == divide(fee, shuffled(weights), receivers(shuffled(data)))


@given(fees, weightings, datasets)
def test_no_share_is_off_by_a_unit_or_more(fee, weights, data):
    expected = dict(weights)
    if not data:
        expected |= {"model": weights["model"] + weights["datasets"], "datasets": 0}
    parts = divide(fee, weights, receivers(data))
    for share in SHARES:
        amount = sum(part.amount for part in parts if part.share == share)
        assert abs(amount * WHOLE - fee * expected[share]) < WHOLE


def paid_for(fee, weights, data) -> dict[str, int]:
    """asset → what it got."""
    paid = dict.fromkeys(data, 0)
    for part in divide(fee, weights, receivers(data)):
        if part.share == "datasets":
            assert part.asset is not None and part.owner == data[part.asset]
            paid[part.asset] += part.amount
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
