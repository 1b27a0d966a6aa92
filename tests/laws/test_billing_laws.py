"""The laws of aid, over calls as the machine thinks them up: who pays is exact, and no fund is ever overspent."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gongqi import app
from gongqi.books.ledger import service as ledger
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, execute, query
from gongqi.members import service as members
from gongqi.resources.serving import metering
from gongqi.resources.serving.aid import aid_of
from gongqi.resources.serving.leases import grant_lease
from gongqi.resources.serving.metering import NANO
from gongqi.resources.serving.models import Lease, ModelRoute, Tab, Usage
from gongqi.resources.serving.settlement import settle_batch

UNIT = "CNY-fen"
percents = st.integers(0, 100)
nanos = st.integers(0, 10**15)
_numbers = itertools.count()


@given(nanos, percents)
def test_caller_and_fund_pay_the_full_price_together(cost: int, percent: int) -> None:
    own, aid = metering.shares(cost, percent)
    assert own + aid == cost and own >= 0 and aid >= 0
    assert 0 <= 100 * own - percent * cost < 100, "the caller pays its share, and what does not divide"


@given(st.lists(nanos, max_size=20), percents)
def test_a_fund_never_pays_more_than_its_share_of_the_sum(costs: list[int], percent: int) -> None:
    assert sum(metering.shares(cost, percent).aid for cost in costs) <= metering.shares(sum(costs), percent).aid


@dataclass
class Desk:
    """A foundation whose calls are made up here, and charged as the gateway charges them."""

    kernel: Kernel
    operator: Any
    route: str = ""

    def do(self, verb: str, **values: Any) -> Any:
        declared = self.kernel.house.verbs[verb]
        return execute(self.kernel, declared, Caller(self.operator), declared.input.model_validate(values))

    def ask(self, read: str, **values: Any) -> Any:
        declared = self.kernel.house.reads[read]
        return query(self.kernel, declared, Caller(self.operator), declared.input.model_validate(values))

    def organisation(self, funds: int) -> str:
        name = f"org-{next(_numbers)}"
        org = self.do("members:organisation:create", handle=name, name=name).id
        if funds:
            self.do("ledger:credit:grant", owner=org, unit=UNIT, amount=funds)
        return org

    def priced_route(self) -> str:
        name = f"m-{next(_numbers)}"
        address = {"base_url": "http://127.0.0.1:9/v1", "private": True}
        endpoint = self.do("serving:endpoint:add", name=name, **address).id
        home = self.ask("members:party:list", handle="foundation").items[0].id
        targets = [{"endpoint": endpoint, "model": "m"}]
        route = self.do("serving:route:define", name=name, org=home, context_tokens=100, targets=targets).id
        self.do("billing:price:publish", route=route, unit=UNIT, input_nanos=1, output_nanos=1)
        return route

    def fund(self, amount: int) -> str:
        fund = self.do("billing:fund:open", name=f"fund-{next(_numbers)}", unit=UNIT).id
        if amount:
            self.do("ledger:credit:grant", owner=fund, unit=UNIT, amount=amount)
        return fund

    def balance(self, owner: str, code: str = "available") -> int:
        return self.kernel.look(lambda ctx: ledger.balance(ctx, ledger.account_id(owner, UNIT, code)))

    def rows(self, query: Any) -> list[Any]:
        return self.kernel.look(lambda ctx: list(ctx.session.scalars(query)))


class Client:
    """One key of one data plane: takes from its lease as the plane does, and has what it did settled in batches."""

    def __init__(self, desk: Desk, org: str, *routes: str) -> None:
        self.desk, self.org, self.routes = desk, org, routes
        self.plane = f"plane-{next(_numbers)}"
        self.key = desk.do("serving:key:issue", org=org, label="law", unit=UNIT).id
        self.records: list[list[Any]] = []
        self.lease, self.left, self.offset = "", 0, 0

    def call(self, route: str, bound: int, cost: int) -> bool:
        """Whether it was admitted."""
        if self.left < bound:
            self.give_back()
            try:
                self.ask(route, bound)
            except Refused as refused:
                assert refused.code in ("serving.funds-too-low", "serving.aid-exhausted")
                return False
        self.left -= cost
        price = ["price", 1, UNIT, 1, 1, 1, cost, self.lease, 1, "general"]
        about = ["e", f"gen_{next(_numbers)}", self.org, self.key, "default", route, None, "complete", 0, 1, 1, 1]
        self.records.append([*about, cost, 0, 0, False, False, *price])
        return True

    def ask(self, route: str, bound: int) -> None:
        def granted(ctx: Any) -> Any:
            aid = aid_of(ctx, {self.org}, ctx.session.scalars(select(ModelRoute))).get(self.org, {}).get(route)
            wish = max(bound, 20 * NANO)
            asked = {"unit": UNIT, "need_nanos": bound, "wish_nanos": wish, "aid": aid}
            return grant_lease(ctx, plane=self.plane, key=self.key, **asked)

        made = self.desk.kernel.transact(granted, reason="law")
        self.lease, self.left = made.id, made.nanos

    def give_back(self) -> None:
        if self.lease:
            self.records.append(["l", self.lease])
            self.lease, self.left = "", 0

    def settle(self) -> None:
        start, self.offset = self.offset, self.offset + 1
        batch = {"plane": self.plane, "segment": 1, "start": start, "end": self.offset, "records": self.records}
        self.desk.kernel.transact(lambda ctx: settle_batch(ctx, **batch), reason="law")
        self.records = []


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("billing")
    with new_database(folder) as url:
        told = Settings.from_environment({"GONGQI_HOME": str(folder), "GONGQI_DATABASE_URL": url})
        database = Database(url)
        kernel = Kernel(
            told,
            app.house(),
            database,
            FolderBlobs(folder / "blobs"),
            record=lambda ctx, entry: None,
            clock=FixedClock(),
        )
        start = members.bootstrap_operator(kernel)
        operator = kernel.look(lambda ctx: members.actor_for_token(ctx, start.token))
        yield Desk(kernel, operator)
        database.close()


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
    caller = Client(desk, org, route)
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
