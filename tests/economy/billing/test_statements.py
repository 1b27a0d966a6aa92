"""A month's statement: what it says, in which forms, and when there is none."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from gongqi.economy.billing import service
from gongqi.resources.serving.metering import NANO
from tests.economy.billing.conftest import month, refused
from tests.sim.desk import UNIT, Client, Desk


@pytest.fixture(scope="module")
def charged(desk: Desk) -> tuple[str, str, list[str]]:
    """An organisation, a month that is over, and the two models that it was charged for: 12 and 5 fen, and parts."""
    org, routes = desk.organisation(1_000), [desk.priced_route(), desk.priced_route()]
    client = Client(desk, org)
    for route, cost in ((routes[0], 12 * NANO + 7), (routes[1], 5 * NANO + 9)):
        client.call(route, 20 * NANO, cost)
    client.give_back()
    client.settle()
    was = month(desk)
    desk.clock.advance(days=32)
    return org, was, routes


def test_a_statement_as_csv_holds_what_it_says(desk: Desk, charged: Any) -> None:
    org, was, routes = charged
    statement = desk.ask("billing:statement:get", org=org, month=was, unit=UNIT)
    rows = list(csv.DictReader(io.StringIO(service.as_csv(statement))))
    assert [row["row"] for row in rows] == [
        "opening",
        "model",
        "model",
        "ledger.grant",
        "charged",
        "charged",
        "closing",
    ]
    assert sum(int(row["amount"]) for row in rows[:-1] if row["amount"]) == int(rows[-1]["amount"]) == 1_000 - 17
    assert {(row["route"], row["charged"], row["carried_out_nanos"]) for row in rows if row["row"] == "model"} == {
        (routes[0], "12", "7"), (routes[1], "5", "9"),
    }  # fmt: skip


def test_there_is_no_statement_of_a_month_that_has_not_begun(desk: Desk, charged: Any) -> None:
    with refused("billing.month-not-begun"):
        desk.ask("billing:statement:get", org=charged[0], month="2090-01")


def test_the_next_month_begins_where_the_last_ended(desk: Desk, charged: Any) -> None:
    org, was, _ = charged
    before, now = (desk.ask("billing:statement:get", org=org, month=each) for each in (was, month(desk)))
    assert (before.is_over, now.is_over) == (True, False)
    assert (now.opening, now.closing) == (before.closing, before.closing)
    assert [line.carried_in_nanos for line in now.models] == [line.carried_out_nanos for line in before.models]
