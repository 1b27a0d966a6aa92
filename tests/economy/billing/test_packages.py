"""Packages: credit is bought, spent before money, and what is left of it goes back to those who paid."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gongqi.economy.billing import packages
from gongqi.economy.billing.models import Subscription
from gongqi.economy.billing.rules import returned
from gongqi.kernel.errors import Refused
from gongqi.resources.serving.metering import NANO
from gongqi.resources.serving.models import Tab, Usage
from tests.economy.billing.conftest import refused
from tests.sim.desk import Client, Desk


def subscriptions(desk: Desk, org: str) -> list[Any]:
    return desk.ask("billing:subscription:list", org=org).items


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.data())
def test_the_buyers_part_of_what_is_left_is_its_proportion_rounded_down(
    price: int, more: int, data: st.DataObject
) -> None:
    left = data.draw(st.integers(0, price + more))
    own = returned(left, price=price, credit=price + more)
    assert 0 <= left * price - own * (price + more) < price + more
    assert own == left or more


def test_credit_is_spent_before_money_and_the_rest_goes_back_in_proportion(desk: Desk) -> None:
    org, fund, route = desk.organisation(100), desk.fund(100), desk.priced_route()
    bought = desk.do("billing:subscription:start", org=org, package=desk.package(80, 100, fund, days=30))
    assert (bought.left, desk.balance(org), desk.balance(fund)) == (100, 20, 80)
    desk.used(org, route, 60)
    assert desk.balance(org) == 20 and desk.balance(route, "clearing") == 60, "the provider has the full price"
    [record] = desk.rows(select(Usage).where(Usage.org == org))
    assert (record.aid_nanos, record.fund) == (60 * NANO, bought.id)
    desk.clock.advance(days=30)
    desk.turn()
    [ended] = subscriptions(desk, org)
    assert (ended.state, ended.left) == ("ended", 0)
    assert (desk.balance(org), desk.balance(fund)) == (20 + 32, 80 + 8)


def test_a_key_may_spend_money_alone(desk: Desk) -> None:
    org, route = desk.organisation(100), desk.priced_route()
    desk.do("billing:subscription:start", org=org, package=desk.package(50, 50))
    desk.used(org, route, 10, spends="money")
    assert desk.balance(org) == 40
    desk.used(org, route, 10)
    assert desk.balance(org) == 40 and subscriptions(desk, org)[0].left == 40


def test_where_credit_does_not_reach_money_pays(desk: Desk) -> None:
    org, route = desk.organisation(100), desk.priced_route()
    desk.do("billing:subscription:start", org=org, package=desk.package(5, 5))
    desk.used(org, route, 6)
    assert desk.balance(org) == 89 and subscriptions(desk, org)[0].left == 5


def test_bought_credit_comes_before_aid_that_is_given(desk: Desk) -> None:
    org, fund, route = desk.organisation(100), desk.fund(100), desk.priced_route()
    desk.do("billing:aid:grant", org=org, fund=fund, paid_percent=0, reason="a school")
    desk.do("billing:subscription:start", org=org, package=desk.package(10, 10))
    desk.used(org, route, 4)
    assert desk.balance(fund) == 100 and subscriptions(desk, org)[0].left == 6
    desk.used(org, route, 4, spends="money")
    assert desk.balance(fund) == 96 and desk.balance(org) == 90


def test_what_calls_still_hold_is_given_back_when_they_are_settled(desk: Desk) -> None:
    org, route = desk.organisation(100), desk.priced_route()
    bought = desk.do("billing:subscription:start", org=org, package=desk.package(50, 50))
    client = Client(desk, org)
    assert client.call(route, 10 * NANO, 7 * NANO)
    ending = desk.do("billing:subscription:end", subscription=bought.id)
    assert ending.state == "ending" and ending.held >= 10
    desk.turn()
    assert subscriptions(desk, org)[0].state == "ending"
    client.give_back()
    client.settle()
    desk.turn()
    assert subscriptions(desk, org)[0].state == "ended" and desk.balance(org) == 100 - 7
    with refused("billing.subscription-ended"):
        desk.do("billing:subscription:end", subscription=bought.id)


def test_one_that_renews_buys_the_next_span_as_long_as_it_can(desk: Desk) -> None:
    org = desk.organisation(25)
    package = desk.package(20, 20, days=10)
    desk.do("billing:subscription:start", org=org, package=package, renews=True)
    desk.clock.advance(days=10)
    desk.turn()
    assert [each.state for each in subscriptions(desk, org)] == ["running", "ended"] and desk.balance(org) == 5
    desk.do("billing:package:withdraw", package=package)
    desk.clock.advance(days=10)
    desk.turn()
    assert [each.state for each in subscriptions(desk, org)] == ["ended", "ended"] and desk.balance(org) == 25


def test_who_cannot_pay_for_the_next_span_goes_on_without(desk: Desk) -> None:
    org, route = desk.organisation(20), desk.priced_route()
    desk.do("billing:subscription:start", org=org, package=desk.package(20, 20, days=10), renews=True)
    desk.used(org, route, 15)
    desk.clock.advance(days=10)
    desk.turn()
    assert [each.state for each in subscriptions(desk, org)] == ["ended"] and desk.balance(org) == 5


def test_what_does_not_fit_together_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    org, fund = desk.organisation(10), desk.fund(1)
    for price, credit, payer in ((10, 9, None), (10, 12, None), (10, 10, fund)):
        with refused("billing.package-unbalanced"):
            desk.package(price, credit, payer)
    hours = desk.do("billing:fund:open", name="hours", unit="GPU-second").id
    with refused("billing.package-unit-differs"):
        desk.package(1, 2, hours)
    package = desk.package(10, 12, fund)
    with refused("billing.package-name-taken"):
        desk.do("billing:package:publish", name=desk.ask("billing:package:list").items[0].name, price=1, credit=1)
    with refused("billing.package-fund-too-low"):
        desk.do("billing:subscription:start", org=org, package=package)
    assert desk.balance(org) == 10 and not subscriptions(desk, org), "nothing half-bought"
    with refused("ledger.balance-too-low"):
        desk.do("billing:subscription:start", org=org, package=desk.package(11, 11))
    monkeypatch.setattr(packages, "MAX_STARTED", 0)
    with refused("billing.subscriptions-too-many"):
        desk.do("billing:subscription:start", org=org, package=desk.package(1, 1))
    desk.do("billing:package:withdraw", package=package)
    with refused("billing.package-withdrawn"):
        desk.do("billing:subscription:start", org=org, package=package)


WAYS = ("credits-first", "money")
acts = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(1, 8 * NANO), st.integers(0, 8 * NANO), st.sampled_from(WAYS)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("buy"), st.booleans()),
        st.tuples(st.just("end")),
        st.tuples(st.just("days"), st.integers(1, 12)),
    ),
    max_size=14,
)  # fmt: skip


@pytest.mark.heavy
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 30), st.integers(0, 20), acts)
@example(7, 3, [("buy", True), ("call", 5 * NANO, 4 * NANO + 1, "credits-first"), ("days", 11), ("settle",)])
@example(3, 1, [("buy", False), ("buy", False), ("call", 3 * NANO, NANO, "credits-first"), ("end",)])
def test_every_unit_that_was_paid_is_a_call_or_goes_back(desk: Desk, price: int, more: int, made: list[Any]) -> None:
    org, fund, route = desk.organisation(60), desk.fund(30), desk.priced_route()
    package = desk.package(price, price + more, fund if more else None, days=10)
    clients = {spends: Client(desk, org, spends=spends) for spends in WAYS}
    for act, *values in made:
        if act == "call":
            clients[values[2]].call(route, values[0], min(values[0], values[1]))
        elif act == "settle":
            for client in clients.values():
                client.give_back()
                client.settle()
        elif act == "buy":
            try:
                desk.do("billing:subscription:start", org=org, package=package, renews=values[0])
            except Refused as refusal:
                assert refusal.code in ("ledger.balance-too-low", "billing.package-fund-too-low")
        elif act == "end":
            for running in [each for each in subscriptions(desk, org) if each.state == "running"]:
                desk.do("billing:subscription:end", subscription=running.id)
        else:
            desk.clock.advance(days=values[0])
            desk.turn()
    for client in clients.values():
        client.give_back()
        client.settle()
    desk.turn()
    tabs = {tab.org: tab.charged for tab in desk.rows(select(Tab).where(Tab.route == route))}
    own, from_fund = tabs.get(org, 0), 0
    for row in desk.rows(select(Subscription).where(Subscription.org == org)):
        assert row.state in ("running", "ended") and desk.balance(row.id, "held") == 0
        left = row.credit - tabs.get(row.id, 0)
        back = returned(left, price=row.price, credit=row.credit) if row.state == "ended" else 0
        assert desk.balance(row.id) == (0 if row.state == "ended" else left) and left >= 0
        own += row.price - back
        from_fund += row.credit - row.price - (left - back if row.state == "ended" and row.fund else 0)
        if row.fund is None:
            assert row.state != "ended" or back == left
    assert desk.balance(org) == 60 - own and desk.balance(fund) == 30 - from_fund
    assert desk.balance(route, "clearing") == sum(tabs.values())
    assert desk.ask("ledger:book:check").findings == []
