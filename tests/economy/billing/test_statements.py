"""A month's statement and invoice: what they say, in which forms, and when there is none."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import drafthorse
import pytest
from lxml import etree
from starlette.requests import Request

from gongqi.economy.billing import api, service
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Caller
from gongqi.resources.serving.metering import NANO
from tests.sim.desk import UNIT, Client, Desk, open_desk

SCHEMA = Path(drafthorse.__file__).parent / "schema" / "Factur-X_1.0.07_EN16931.xsd"
RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"
ADDRESS = {"street": "1 North Road", "city": "Beijing", "postcode": "100000", "country": "CN"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("billing")
    with new_database(folder) as url, open_desk(folder, url) as made:
        yield made


def refused(code: str) -> Any:
    return pytest.raises(Refused, match=rf"^{re.escape(code)}\(")


def invoice(desk: Desk, org: str, month: str, unit: str = UNIT) -> Any:
    asked = service.OneStatement(org=org, month=month, unit=unit)
    return desk.kernel.look(lambda ctx: service.invoice(ctx, asked), Caller(desk.operator))


def month(desk: Desk) -> str:
    return f"{desk.clock.now():%Y-%m}"


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


def test_an_invoice_is_what_the_ledger_was_charged_and_valid_by_the_schema(desk: Desk, charged: Any) -> None:
    org, was, _ = charged
    home = desk.ask("members:party:list", handle="foundation").items[0].id
    with refused("billing.address-missing"):
        invoice(desk, org, was)
    desk.do("billing:address:set", org=home, name="The Foundation", **ADDRESS)
    desk.do("billing:address:set", org=org, name="North & Sons <Ltd>", **ADDRESS)
    made = invoice(desk, org, was)
    root = etree.fromstring(made.xml)
    etree.XMLSchema(file=str(SCHEMA)).assertValid(root)
    lines = [Decimal(each.text) for each in root.iter(f"{RAM}LineTotalAmount")]
    assert sorted(lines[:-1]) == [Decimal("0.05"), Decimal("0.12")] and lines[-1] == Decimal("0.17")
    for name, wanted in (("GrandTotalAmount", "0.17"), ("TotalPrepaidAmount", "0.17"), ("DuePayableAmount", "0")):
        assert [Decimal(each.text) for each in root.iter(f"{RAM}{name}")] == [Decimal(wanted)]
    assert {each.text for each in root.iter(f"{RAM}CategoryCode")} == {"O"}
    assert not list(root.iter(f"{RAM}RateApplicablePercent")), "a rate that nobody set is not on it"
    assert [each.text for each in root.iter(f"{RAM}InvoiceCurrencyCode")] == ["CNY"]
    assert "North & Sons <Ltd>" in [each.text for each in root.iter(f"{RAM}Name")]
    assert made == invoice(desk, org, was), "asked again it is the same"


def test_the_invoice_is_a_file_of_its_own_type(desk: Desk, charged: Any) -> None:
    org, was, _ = charged
    for owner in (org, desk.ask("members:party:list", handle="foundation").items[0].id):
        desk.do("billing:address:set", org=owner, name="A Party", **ADDRESS)
    scope = {
        "type": "http", "method": "GET", "headers": [], "query_string": b"unit=CNY-fen",
        "path_params": {"org": org, "month": was, "name": "invoice.xml"},
        "state": {"kernel": desk.kernel, "caller": Caller(desk.operator)},
    }  # fmt: skip
    answer = asyncio.run(api.give(Request(scope)))
    assert answer.body == invoice(desk, org, was).xml
    assert answer.headers["content-type"] == "application/xml"
    assert f'filename="{was}-CNY-fen-invoice.xml"' in answer.headers["content-disposition"]


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


def test_there_is_no_invoice_of_nothing_nor_of_what_is_not_over_nor_of_what_is_no_money(
    desk: Desk, charged: Any
) -> None:
    org, was, _ = charged
    with refused("billing.month-not-over"):
        invoice(desk, org, month(desk))
    with refused("billing.nothing-charged"):
        invoice(desk, desk.organisation(5), was)
    with refused("billing.unit-not-money"):
        invoice(desk, org, was, "credit")
    with refused("billing.month-not-begun"):
        desk.ask("billing:statement:get", org=org, month="2090-01")


def test_the_next_month_begins_where_the_last_ended(desk: Desk, charged: Any) -> None:
    org, was, _ = charged
    before, now = (desk.ask("billing:statement:get", org=org, month=each) for each in (was, month(desk)))
    assert (before.is_over, now.is_over) == (True, False)
    assert (now.opening, now.closing) == (before.closing, before.closing)
    assert [line.carried_in_nanos for line in now.models] == [line.carried_out_nanos for line in before.models]


def test_an_address_is_changed_by_setting_it_again(desk: Desk) -> None:
    org = desk.organisation(0)
    first = desk.do("billing:address:set", org=org, name="Before", **ADDRESS)
    second = desk.do("billing:address:set", org=org, name="After", **ADDRESS)
    assert (first.name, second.name, second.version) == ("Before", "After", 2)
    assert desk.ask("billing:address:get", org=org).name == "After"
