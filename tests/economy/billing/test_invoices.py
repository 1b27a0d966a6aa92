"""Invoices: what they say with and without tax, by the schema and by the official rules, and when there is none."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.requests import Request

from gongqi.books.ledger import periods
from gongqi.economy.billing import api
from gongqi.economy.billing.countries import COUNTRIES
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Caller, Entry
from gongqi.resources.serving.metering import NANO
from tests.economy.billing.conftest import ADDRESS, CHINESE, FRENCH, GERMAN, Office, month, refused
from tests.economy.billing.rules import amounts, broken_rules
from tests.sim.desk import Client


@pytest.mark.heavy
def test_an_invoice_without_a_rule_of_tax_says_so_and_keeps_the_rules(office: Office) -> None:
    org, was, _ = office.charged(12, 5, name="North & Sons <Ltd>", vat_id=GERMAN)
    issued = office.issue(org, was)
    assert (issued.type_code, issued.amount, issued.net, issued.tax, issued.rounding) == ("380", 17, 17, 0, 0)
    document = office.xml(issued)
    assert broken_rules(document) == []
    assert set(amounts(document, "CategoryCode")) == {"O"} and not amounts(document, "RateApplicablePercent")
    assert amounts(document, "GrandTotalAmount") == amounts(document, "TotalPrepaidAmount") == ["0.17"]
    assert "North & Sons <Ltd>" in amounts(document, "Name") and amounts(document, "InvoiceCurrencyCode") == ["CNY"]
    assert GERMAN.encode() not in document, "BR-O-02: where no tax is there is no tax number"


def test_tax_is_within_what_was_charged_and_agrees_to_the_unit(office: Office) -> None:
    rule = office.tax("S", 1900)
    org, was, _ = office.charged(900, 98, 1)
    issued = office.issue(org, was)
    assert (issued.amount, issued.net, issued.tax, issued.rounding) == (999, 839, 159, 1), "no basis gives 999 at 19 %"
    assert sum(line.net for line in issued.lines) == 839 and issued.subtotals[0].rule == rule
    document = office.xml(issued)
    assert broken_rules(document) == []
    for name, wanted in (
        ("TaxBasisTotalAmount", "8.39"), ("TaxTotalAmount", "1.59"), ("GrandTotalAmount", "9.98"),
        ("RoundingAmount", "0.01"), ("TotalPrepaidAmount", "9.99"), ("DuePayableAmount", "0.00"),
    ):  # fmt: skip
        assert [Decimal(each or "") for each in amounts(document, name)] == [Decimal(wanted)]


@pytest.mark.parametrize(
    ("category", "buyer"),
    [
        ("Z", {}),
        ("E", {}),
        ("AE", {"country": "FR", "vat_id": FRENCH}),
        ("AE", {"country": "US", "registration": "12-3456789"}),
        ("K", {"country": "FR", "vat_id": FRENCH}),
        ("G", {"country": "CN", "vat_id": CHINESE, "registration": CHINESE[2:]}),
        ("O", {}),
    ],
)
def test_every_category_keeps_the_official_rules(office: Office, category: str, buyer: dict[str, Any]) -> None:
    office.tax(category, article="Directive 2006/112/EC, Article 196")
    org, was, _ = office.charged(1234, **buyer)
    issued = office.issue(org, was)
    assert (issued.net, issued.tax) == (1234, 0)
    document = office.xml(issued)
    assert broken_rules(document) == []
    has_reason = category not in ("Z",)
    assert bool(amounts(document, "ExemptionReason")) == has_reason


def test_several_rates_are_on_one_invoice_by_model(office: Office) -> None:
    routes = [office.desk.priced_route() for _ in range(3)]
    office.tax("S", 1900)
    office.tax("S", 700, routes=[routes[1]])
    office.tax("E", 0, routes=[routes[2]], article="UStG § 4 Nr. 21")
    org, was, _ = office.charged(1_000, 1_000, 1_000, routes=routes)
    issued = office.issue(org, was)
    assert {(each.category, each.rate_bp, each.basis, each.tax) for each in issued.subtotals} == {
        ("E", 0, 1_000, 0), ("S", 700, 935, 65), ("S", 1900, 840, 160),
    }  # fmt: skip
    assert broken_rules(office.xml(issued)) == []


def test_an_invoice_is_issued_once_and_does_not_change(office: Office) -> None:
    org, was, _ = office.charged(40, name="Before")
    issued = office.issue(org, was)
    before = office.xml(issued)
    office.address(org, name="After")
    office.tax("S", 1900)
    assert office.xml(issued) == before
    with refused("billing.invoice-issued"):
        office.issue(org, was)
    listed = office.desk.ask("billing:invoice:list", org=org).items
    assert [(each.id, each.number) for each in listed] == [(issued.id, issued.number)]


def test_numbers_of_a_year_have_no_gap_and_a_refused_invoice_takes_none(office: Office) -> None:
    first = office.issue(*office.charged(3)[:2])
    without = office.charged(4, name="Nobody")
    with refused("billing.invoice-issued"):
        office.issue(first.org, first.month)
    second = office.issue(*without[:2])
    told = [each.number.split("-") for each in (first, second)]
    by_year = {year: [int(at) for series, at in told if series == year] for year in {series for series, _ in told}}
    assert all(numbers == list(range(numbers[0], numbers[0] + len(numbers))) for numbers in by_year.values())


def test_there_is_no_invoice_of_nothing_nor_of_what_is_not_over_nor_of_what_is_no_money(office: Office) -> None:
    desk = office.desk
    org, was, _ = office.charged(7)
    with refused("billing.month-not-over"):
        office.issue(org, month(desk))
    with refused("billing.nothing-charged"):
        office.issue(desk.organisation(5), was)
    with refused("billing.unit-not-money"):
        office.issue(org, was, "credit")
    with refused("billing.invoice-to-oneself"):
        office.issue(office.home, was)
    with refused("billing.invoice-not-issued"):
        file(office, org=org, month=was, name="invoice.xml")
    with refused("billing.month-not-over"):
        file(office, org=org, month=month(desk), name="invoice.xml")


def test_a_month_is_invoiced_when_nothing_of_it_can_still_be_under_way(office: Office) -> None:
    desk = office.desk
    now = desk.clock.now()
    over = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    org, was = desk.organisation(1_000), month(desk)
    client, route = Client(desk, org), desk.priced_route()
    client.call(route, 8 * NANO, 7 * NANO)
    client.give_back()
    client.settle()
    office.address(org)
    desk.clock.advance(seconds=(over - now).total_seconds())
    with refused("billing.month-not-over"):
        office.issue(org, was)
    desk.clock.advance(seconds=periods.TOGETHER.total_seconds())
    assert office.issue(org, was).amount == 7


@pytest.mark.parametrize("letter", ["\x01", "\n", "\x85", "\uffff"])
def test_what_no_document_can_hold_does_not_get_onto_an_invoice(office: Office, letter: str) -> None:
    org, was, _ = office.charged(7)
    with pytest.raises(ValidationError, match="name"):
        office.address(org, name=f"A{letter}B")
    issued = office.issue(org, was)
    with pytest.raises(ValidationError, match="reason"):
        office.desk.do("billing:invoice:credit", invoice=issued.id, reason=f"A{letter}B")


def test_what_an_invoice_says_cannot_be_guessed_by_what_is_public(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    org, was, _ = office.charged(7)
    entries: list[Entry] = []
    monkeypatch.setattr(office.desk.kernel, "record", lambda _ctx, entry: entries.append(entry))
    issued = office.issue(org, was)
    (entry,) = entries
    assert entry.facts == {"number": issued.number}
    assert entry.private is not None and {"content_sha256", "request_id"} <= entry.private.keys()


def test_without_an_address_there_is_no_invoice(office: Office) -> None:
    org, was, _ = office.charged(7, sets_address=False)
    with refused("billing.address-missing"):
        office.issue(org, was)
    office.address(org)
    assert office.issue(org, was).buyer.name == "A Party"


def test_what_the_category_wants_of_the_parties_is_asked_for(office: Office) -> None:
    reverse = office.tax("AE", article="Article 196")
    org, was, _ = office.charged(70)
    with refused("billing.tax-number-missing"):
        office.issue(org, was)
    office.desk.do("billing:tax:end", tax=reverse)
    office.desk.clock.advance(days=40)
    office.tax("S", 1900)
    org, was, _ = office.charged(70)
    office.address(office.home, name="The Foundation")
    with refused("billing.tax-number-missing"):
        office.issue(org, was)


def test_a_seller_in_china_says_that_it_is_no_fapiao(office: Office) -> None:
    office.address(office.home, name="基金会", country="CN", city="北京", vat_id=CHINESE)
    office.tax("S", 600, jurisdiction="CN", article="增值税法第十条")
    issued = office.issue(*office.charged(106, country="CN", city="上海")[:2])
    document = office.xml(issued)
    assert (issued.net, issued.tax) == (100, 6) and broken_rules(document) == []
    assert "发票须经税务机关的系统开具" in document.decode()
    with refused("billing.registration-invalid"):
        office.address(issued.org, country="CN", registration="911100006000373410")


@pytest.mark.parametrize("wrong", ["FR136695976", "DE136695977", "DE12"])
def test_a_tax_number_has_the_letters_and_digits_of_its_country(office: Office, wrong: str) -> None:
    with refused("billing.vat-id-invalid"):
        office.address(office.home, vat_id=wrong)


@pytest.mark.parametrize("wrong", ["EU", "UK", "XK", "ZZ", "AA"])
def test_a_country_is_one_of_iso_3166(office: Office, wrong: str) -> None:
    with refused("billing.country-unknown"):
        office.address(office.home, country=wrong)
    assert len(COUNTRIES) == 249 and all(len(each) == 2 for each in COUNTRIES)


def file(office: Office, **path: str) -> Any:
    handle = api.give_issued if "invoice" in path else api.give
    scope = {
        "type": "http", "method": "GET", "headers": [], "query_string": b"unit=CNY-fen", "path_params": path,
        "state": {"kernel": office.desk.kernel, "caller": Caller(office.desk.operator)},
    }  # fmt: skip
    return asyncio.run(handle(Request(scope)))


def test_an_invoice_is_a_file_of_its_own_type_by_month_and_by_id(office: Office) -> None:
    org, was, _ = office.charged(7)
    issued = office.issue(org, was)
    by_month, by_id = (
        file(office, org=org, month=was, name="invoice.xml"),
        file(office, invoice=issued.id, name="invoice.xml"),
    )
    assert by_month.body == by_id.body == office.xml(issued)
    assert by_month.headers["content-type"] == "application/xml"
    assert f'filename="{was}-CNY-fen-invoice.xml"' in by_month.headers["content-disposition"]
    assert f'filename="{issued.number}.xml"' in by_id.headers["content-disposition"]
    with pytest.raises(Refused, match=r"^access\.not-found"):
        file(office, invoice=issued.id, name="invoice.pdf")


def test_an_address_is_changed_by_setting_it_again(office: Office) -> None:
    desk = office.desk
    org = desk.organisation(0)
    first = desk.do("billing:address:set", org=org, name="Before", **ADDRESS)
    second = desk.do("billing:address:set", org=org, name="After", **ADDRESS)
    assert (first.name, second.name, second.version) == ("Before", "After", 2)
    assert desk.ask("billing:address:get", org=org).name == "After"
