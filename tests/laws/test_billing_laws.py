"""The laws of billing, over calls as the machine thinks them up: who pays is exact, no fund is ever overspent, and a
month's statement, its invoice and what corrects it are what the usage records and the ledger say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.models import Posting, Transaction
from gongqi.economy.billing.models import Subscription
from gongqi.resources.serving import metering
from gongqi.resources.serving.metering import NANO
from gongqi.resources.serving.models import Lease, Tab, Usage
from tests.economy.billing.conftest import GERMAN, Office
from tests.sim.desk import UNIT, Client, Desk, open_desk

pytestmark = pytest.mark.heavy

percents = st.integers(0, 100)
nanos = st.integers(0, 10**15)


@given(nanos, percents)
def test_caller_and_fund_pay_the_full_price_together(cost: int, percent: int) -> None:
    own, aid = metering.shares(cost, percent)
    assert own + aid == cost and own >= 0 and aid >= 0
    assert 0 <= 100 * own - percent * cost < 100, "the caller pays its share, and what does not divide"


@given(st.lists(nanos, max_size=20), percents)
def test_a_fund_never_pays_more_than_its_share_of_the_sum(costs: list[int], percent: int) -> None:
    assert sum(metering.shares(cost, percent).aid for cost in costs) <= metering.shares(sum(costs), percent).aid


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("billing")
    with new_database(folder) as url, open_desk(folder, url) as made:
        yield made


@pytest.fixture(scope="module")
def office(desk: Desk) -> Office:
    made = Office(desk)
    made.address(made.home, name="The Foundation", vat_id=GERMAN)
    made.tax("S", 1900)
    return made


calls = st.lists(
    st.tuples(st.integers(1, 6 * NANO), st.fractions(0, 1, max_denominator=7), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 99), st.integers(0, 40), st.integers(0, 40), calls)
@example(33, 1, 40, [(3 * NANO, 1, False)] * 3)
@example(0, 5, 0, [(2 * NANO, 1, True)] * 4)
def test_the_provider_gets_the_full_price_and_neither_purse_is_overdrawn(
    desk: Desk, percent: int, fund_amount: int, funds: int, made: list[tuple[int, Any, bool]]
) -> None:
    org, fund, route = desk.organisation(funds), desk.fund(fund_amount), desk.priced_route()
    desk.do("billing:aid:grant", org=org, fund=fund, paid_percent=percent, routes=[route], reason="law")
    caller = Client(desk, org)
    for bound, part, ends_batch in made:
        caller.call(route, bound, int(bound * part))
        if ends_batch:
            caller.settle()
        assert desk.balance(fund) >= 0 and desk.balance(org) >= 0
    caller.give_back()
    caller.settle()
    rows = desk.rows(select(Usage).where(Usage.org == org))
    due = {org: sum(row.cost_nanos - row.aid_nanos for row in rows), fund: sum(row.aid_nanos for row in rows)}
    assert all(0 <= row.aid_nanos <= row.cost_nanos and (row.fund == fund or not row.aid_nanos) for row in rows)
    tabs = {row.org: row for row in desk.rows(select(Tab).where(Tab.route == route))}
    for payer, nanos_due in due.items():
        tab = tabs.get(payer)
        charged, owed = (tab.charged, tab.owed_nanos) if tab else (0, 0)
        assert charged * NANO + owed == nanos_due and 0 <= owed < NANO
    assert desk.balance(route, "clearing") == sum(nanos_due // NANO for nanos_due in due.values())
    assert desk.balance(fund) == fund_amount - due[fund] // NANO and desk.balance(fund, "held") == 0
    assert desk.balance(org) == funds - due[org] // NANO and desk.balance(org, "held") == 0
    assert not desk.rows(select(Lease).where(Lease.plane == caller.plane, Lease.state == "open"))
    assert desk.ask("ledger:book:check").findings == []


acts = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 1), st.integers(1, 6 * NANO), st.integers(0, 6 * NANO)),
        st.tuples(st.just("grant"), st.integers(1, 30)),
        st.tuples(st.just("gift"), st.integers(1, 5)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("buy"), st.integers(1, 8), st.integers(0, 4)),
        st.tuples(st.just("end")),
        st.tuples(st.just("days"), st.integers(1, 40)),
    ),
    max_size=14,
)
BOUGHT, RETURNED = "billing.package-bought", "billing.package-returned"


def month_of(moment: Any) -> str:
    return f"{moment:%Y-%m}"


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 99), acts)
@example(
    50, [("call", 0, 3 * NANO, 2 * NANO + 1), ("settle",), ("days", 31), ("call", 1, 5 * NANO, NANO // 3), ("settle",)]
)
@example(50, [("buy", 8, 4), ("call", 1, 5 * NANO, 5 * NANO), ("days", 20), ("call", 1, 2 * NANO, NANO), ("days", 30)])
@example(50, [("buy", 4, 1), ("days", 40)] * 3)  # one of them comes back in a month after its last day
@example(50, [("days", 28), ("buy", 3, 0), ("end",), ("buy", 5, 1), ("settle",), ("days", 31), ("end",)])
def test_statements_and_invoices_are_what_the_records_and_the_ledger_say_to_the_unit(
    office: Office, percent: int, made: list[Any]
) -> None:
    desk = office.desk
    org, fund, routes = desk.organisation(20), desk.fund(20), [desk.priced_route(), desk.priced_route()]
    desk.do("billing:aid:grant", org=org, fund=fund, paid_percent=percent, routes=[routes[0]], reason="law", days=3660)
    office.address(org)
    client = Client(desk, org)
    first = desk.clock.now()
    settled: dict[str, str] = {}  # of each record, the month in which it was settled

    def settle() -> None:
        settled.update({record[1]: month_of(desk.clock.now()) for record in client.records if record[0] == "e"})
        client.settle()

    for act, *values in made:
        if act == "call":
            client.give_back()  # a lease is aided or not, as its route is
            client.call(routes[values[0]], values[1], min(values[1:]))
        elif act == "grant":
            desk.do("ledger:credit:grant", owner=org, unit=UNIT, amount=values[0])
        elif act == "gift" and desk.balance(org) >= values[0]:
            desk.do("billing:fund:give", fund=fund, org=org, amount=values[0])
        elif act == "settle":
            settle()
        elif act == "buy" and desk.balance(org) >= values[0] and desk.balance(fund) >= values[1]:
            package = desk.package(values[0], sum(values), fund if values[1] else None, days=20)
            desk.do("billing:subscription:start", org=org, package=package, renews=not values[1])
        elif act == "end":
            for running in desk.ask("billing:subscription:list", org=org, limit=200).items:
                if running.state == "running":
                    desk.do("billing:subscription:end", subscription=running.id)
        elif act == "days":
            desk.clock.advance(days=values[0])
            desk.turn()
    client.give_back()
    settle()
    own = tuple(ledger.account_id(org, UNIT, code) for code in ("available", "held"))

    def moved(*kinds: str) -> Counter[str]:
        """By month, what the ledger says of the organisation's money; of these kinds, if any are named."""
        query = (
            select(Transaction.at, Transaction.kind, Posting.amount)
            .join(Posting, Posting.sequence == Transaction.sequence)
            .where(Posting.account_id.in_(own))
        )
        sums: Counter[str] = Counter()
        for at, kind, amount in desk.kernel.look(lambda ctx: ctx.session.execute(query).all()):
            sums[month_of(at)] += amount if kind in kinds or not kinds else 0
        return sums

    net, bought, returned = moved(), moved(BOUGHT), moved(RETURNED)
    usage = desk.rows(select(Usage).where(Usage.org == org))
    months = sorted({month_of(first + timedelta(days=day)) for day in range((desk.clock.now() - first).days + 1)})
    closing, carried, credit = 0, dict.fromkeys(routes, 0), Counter[str]()
    over: dict[str, Any] = {}
    for month in months:
        told = desk.ask("billing:statement:get", org=org, month=month, unit=UNIT)
        assert told.opening == closing, "a month begins where the last ended"
        assert told.opening + told.credits - told.charges - told.payments == told.closing
        assert told.closing - told.opening == net[month]
        assert told.closing - told.opening == sum(each.amount for each in told.movements)
        closing = told.closing
        over |= {month: told} if told.is_over else {}
        assert sum(each.paid for each in told.packages) == -bought[month]
        assert sum(each.paid_back for each in told.packages) == returned[month]
        assert {each.subscription for each in told.packages} >= {id for id, left in credit.items() if left}
        used: Counter[str] = Counter()
        for each in told.included:
            used[each.subscription] += each.amount
        for each in told.packages:
            assert (each.credit_opening, each.credit_used) == (credit[each.subscription], used[each.subscription])
            credit[each.subscription] = (
                each.credit_opening + each.credit_bought - each.credit_used - each.credit_returned
            )
            assert each.credit_closing == credit[each.subscription] >= 0
        lines = {line.route: line for line in told.models}
        for route in routes:
            rows = [row for row in usage if row.route == route and settled[row.id] == month]
            line = lines.pop(route, None)
            if line is None:
                assert not rows and not carried[route]
                continue
            assert (line.calls, line.full_nanos) == (len(rows), sum(row.cost_nanos for row in rows))
            assert (
                line.aid_nanos == sum(row.aid_nanos for row in rows)
                and line.own_nanos == line.full_nanos - line.aid_nanos
            )
            assert line.carried_in_nanos == carried[route]
            assert line.carried_in_nanos + line.own_nanos == line.charged * NANO + line.carried_out_nanos
            carried[route] = line.carried_out_nanos
        assert not lines and told.charges == sum(line.charged for line in told.models)
    assert closing == desk.balance(org) + desk.balance(org, "held")
    tabs = {row.route: row.owed_nanos for row in desk.rows(select(Tab).where(Tab.org == org))}
    assert carried == dict.fromkeys(routes, 0) | tabs
    assert all(left == desk.balance(id) + desk.balance(id, "held") for id, left in credit.items())
    desk.clock.advance(days=62)
    desk.turn()
    assert over == {month: desk.ask("billing:statement:get", org=org, month=month, unit=UNIT) for month in over}
    check_papers(office, org, taken=moved("ledger.settle", BOUGHT), returned=moved(RETURNED))


def check_papers(office: Office, org: str, *, taken: Counter[str], returned: Counter[str]) -> None:
    """An invoice is what the ledger took in its month for calls and packages, and credit notes what packages gave back."""
    desk = office.desk
    running = month_of(desk.clock.now())
    for month, amount in sorted(taken.items()):
        if not amount or month == running:
            continue
        issued = office.issue(org, month)
        assert issued.amount == sum(line.amount for line in issued.lines) == -amount
        assert issued.net + issued.tax + issued.rounding == -amount and 0 <= issued.rounding <= len(issued.subtotals)
        assert {each.subscription for each in issued.included} == {
            each.subscription for each in desk.ask("billing:statement:get", org=org, month=month, unit=UNIT).included
        }
    before = desk.balance(org)
    desk.turn()
    issued = {each.id: each for each in desk.ask("billing:invoice:list", org=org, limit=200).items}
    notes = [each for each in issued.values() if each.corrects]
    sold = desk.rows(select(Subscription).where(Subscription.org == org))
    invoiced = [each for each in sold if month_of(each.since) != running]
    assert all((each.invoice is not None) == (each in invoiced) for each in sold)
    assert sum(each.amount for each in notes) == sum(each.returned or 0 for each in invoiced)
    assert sum(each.returned or 0 for each in sold) == returned.total()
    for note in notes:
        assert note.tax <= issued[note.corrects].tax
        if issued[note.corrects].amount == note.amount:
            assert (note.net, note.tax) == (issued[note.corrects].net, issued[note.corrects].tax)
    assert desk.balance(org) == before, "a credit note of a package moves nothing"
