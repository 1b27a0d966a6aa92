"""Credit notes, and the tax that is reported: what corrects an invoice is booked, bounded and numbered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - compiled, without stubs
from sqlalchemy import select

from gongqi.books.ledger import service as ledger
from gongqi.economy.billing import credit_notes, taxes
from gongqi.economy.billing.models import Invoice, TaxRule
from gongqi.kernel.errors import Refused
from tests.economy.billing.conftest import FRENCH, Office, month, refused
from tests.economy.billing.rules import RAM, amounts, broken_rules
from tests.sim.desk import UNIT


def credit(office: Office, issued: Any, *lines: tuple[int, int]) -> Any:
    given = [{"position": position, "amount": amount} for position, amount in lines]
    return office.desk.do("billing:invoice:credit", invoice=issued.id, reason="charged twice", lines=given)


@pytest.mark.heavy
def test_a_whole_credit_note_mirrors_its_invoice_and_gives_the_money_back(office: Office) -> None:
    desk = office.desk
    office.tax("S", 1900)
    org, was, routes = office.charged(900, 99)
    issued, before = office.issue(org, was), desk.balance(org)
    note = credit(office, issued)
    assert (note.type_code, note.net, note.tax, note.amount) == ("381", issued.net, issued.tax, issued.amount)
    assert desk.balance(org) == before + 999 and all(not desk.balance(route, "clearing") for route in routes)
    document = office.xml(note)
    assert broken_rules(document) == []
    [corrected] = etree.fromstring(document).iter(f"{RAM}InvoiceReferencedDocument")
    assert corrected.findtext(f"{RAM}IssuerAssignedID") == issued.number, "BT-25"
    assert "20" + f"{issued.issued_at:%y%m%d}" in "".join(corrected.itertext()), "BT-26"
    assert amounts(document, "TypeCode")[0] == "381" and "charged twice" in document.decode()
    statement = desk.ask("billing:statement:get", org=org, month=month(desk), unit=UNIT)
    assert [(each.kind, each.amount) for each in statement.movements] == [("billing.credited", 999)]
    with refused("billing.credit-too-high"):
        credit(office, issued)
    assert desk.ask("ledger:book:check").findings == []


def test_of_no_line_is_given_back_more_than_it_has(office: Office) -> None:
    office.tax("S", 2000)
    issued = office.issue(*office.charged(12, 30)[:2])
    at = {each.amount: each.position for each in issued.lines}
    notes = [credit(office, issued, (at[12], 4)) for _ in range(3)]
    assert [each.tax for each in notes] == [1, 1, 1] and sum(each.net for each in notes) <= issued.net
    assert [broken_rules(office.xml(each)) for each in notes] == [[], [], []]
    for wrong, code in (
        (((at[12], 1),), "too-high"), (((at[30], 31),), "too-high"), (((3, 1),), "line-unknown"),
        (((at[30], 1), (at[30], 2)), "line-twice"),
    ):  # fmt: skip
        with refused(f"billing.credit-{code}"):
            credit(office, issued, *wrong)
    with refused("billing.credit-of-credit"):
        credit(office, notes[0])
    listed = office.desk.ask("billing:invoice:list", corrects=issued.id).items
    assert {each.id for each in listed} == {each.id for each in notes}


def test_numbers_of_credit_notes_are_a_series_of_their_own_without_gaps(office: Office) -> None:
    issued = office.issue(*office.charged(12)[:2])
    made = []
    for amount in (1, 20, 2, 3):
        try:
            made.append(credit(office, issued, (1, amount)).number)
        except Refused:
            made.append("refused")
    assert made[1] == "refused" and all(each.startswith("C20") for each in made if each != "refused")
    rows = office.desk.rows(select(Invoice).order_by(Invoice.series, Invoice.position))
    for series in {row.series for row in rows}:
        numbers = [row.position for row in rows if row.series == series]
        assert numbers == list(range(1, len(numbers) + 1))


def test_what_has_been_divided_already_is_given_back_by_the_foundation_or_not_at_all(office: Office) -> None:
    desk = office.desk
    org, was, (route,) = office.charged(100)
    issued = office.issue(org, was)
    elsewhere = desk.organisation(0)

    def divide(ctx: Any) -> None:
        lines = [
            ledger.Line(ledger.account(ctx, route, UNIT, "clearing"), -70),
            ledger.Line(ledger.account(ctx, elsewhere, UNIT), 70),
        ]
        ledger.post(ctx, key=f"divided-{route}", kind="credits.split", subject=route, postings=lines)

    desk.kernel.transact(divide, reason="test")
    with refused("billing.credit-uncovered"):
        credit(office, issued)
    assert desk.balance(route, "clearing") == 30, "a refusal changes nothing"
    desk.do("ledger:credit:grant", owner=office.home, unit=UNIT, amount=75)
    credit(office, issued)
    assert (desk.balance(route, "clearing"), desk.balance(office.home), desk.balance(elsewhere)) == (0, 5, 70)
    assert desk.ask("ledger:book:check").findings == []


def test_a_credit_note_has_a_limit_of_lines(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = office.issue(*office.charged(1, 1, 1)[:2])
    monkeypatch.setattr(credit_notes, "MAX_LINES", 2)
    with refused("billing.credit-too-long"):
        credit(office, issued)


def test_the_report_is_the_tax_of_invoices_less_that_of_credit_notes(office: Office) -> None:
    desk = office.desk
    desk.clock.advance(days=62)  # a month in which nothing was issued yet
    office.tax("S", 1900)
    first = office.issue(*office.charged(1190)[:2])
    told = desk.ask("billing:tax:report", month=month(desk), unit=UNIT)
    assert [(each.category, each.rate_bp, each.basis, each.tax) for each in told.taxes] == [("S", 1900, 1000, 190)]
    credit(office, first, (1, 119))
    told = desk.ask("billing:tax:report", month=month(desk), unit=UNIT)
    assert (told.invoices, told.credit_notes) == (1, 1)
    assert [(each.basis, each.tax) for each in told.taxes] == [(900, 171)]


# ---- the tax table


def test_the_narrowest_rule_holds_and_what_no_rule_fits_is_not_guessed(office: Office) -> None:
    office.tax("S", 1900, buyer_countries=["DE"])
    office.tax("AE", buyer_countries=["FR"], buyer_registered=True, article="Article 196")
    office.tax("S", 2000, buyer_countries=["FR"])
    buyers: tuple[tuple[dict[str, Any], tuple[str, int]], ...] = (
        ({"country": "DE"}, ("S", 1900)),
        ({"country": "FR"}, ("S", 2000)),
        ({"country": "FR", "vat_id": FRENCH}, ("AE", 0)),
    )
    for buyer, wanted in buyers:
        issued = office.issue(*office.charged(119, **buyer)[:2])
        assert [(each.category, each.rate_bp) for each in issued.subtotals] == [wanted]
    with refused("billing.tax-unknown"):
        office.issue(*office.charged(119, country="US")[:2])
    office.tax("S", 700, buyer_countries=["DE", "US"])
    with refused("billing.tax-ambiguous"):
        office.issue(*office.charged(119)[:2])


def test_what_is_outside_the_scope_of_tax_is_alone_on_its_invoice(office: Office) -> None:
    routes = [office.desk.priced_route() for _ in range(2)]
    office.tax("S", 1900)
    office.tax("O", routes=[routes[0]])
    org, was, _ = office.charged(10, 10, routes=routes)
    with refused("billing.tax-mixed"):
        office.issue(org, was)


def test_a_month_is_invoiced_by_the_rule_of_its_last_moment(office: Office) -> None:
    rule = office.tax("S", 1900)
    org, was, _ = office.charged(119)
    office.desk.do("billing:tax:end", tax=rule)
    office.tax("S", 700)
    assert office.issue(org, was).tax == 19, "it held when the month was over"
    with refused("billing.tax-over"):
        office.desk.do("billing:tax:end", tax=rule)


def test_a_rule_that_was_ended_before_it_began_is_in_nobodys_way(office: Office) -> None:
    mistaken = office.tax("S", 1900, since=office.desk.clock.now() + timedelta(days=90))
    with refused("billing.tax-overlaps"):
        office.tax("S", 700)
    office.desk.do("billing:tax:end", tax=mistaken)
    office.tax("S", 700)


def test_rules_that_contradict_or_make_no_sense_are_refused(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.tax("S", 1900, buyer_countries=["DE", "FR"])
    with refused("billing.tax-overlaps"):
        office.tax("S", 700, buyer_countries=["FR", "DE"])
    for category, rate in (("S", 0), ("E", 700), ("O", 1)):
        with refused("billing.tax-rate-unfit"):
            office.tax(category, rate)
    with refused("billing.tax-span"):
        office.tax("S", 700, since="2030-01-01T00:00:00Z", until="2030-01-01T00:00:00Z")
    monkeypatch.setattr(taxes, "MAX_RULES", len(office.desk.rows(select(TaxRule).where(TaxRule.jurisdiction == "DE"))))
    with refused("billing.taxes-too-many"):
        office.tax("Z")


def test_many_at_once_give_back_what_there_is_and_number_it_without_gaps(office: Office) -> None:
    desk = office.desk
    org, was, _ = office.charged(5)
    issued, before = office.issue(org, was), desk.balance(org)

    def one(_: int) -> str | None:
        try:
            return credit(office, issued, (1, 1)).number
        except Refused as refusal:
            assert refusal.code == "billing.credit-too-high"
            return None

    with ThreadPoolExecutor(4) as operators:
        told = [each for each in operators.map(one, range(8)) if each is not None]
    numbers = sorted(int(each.split("-")[1]) for each in told)
    assert numbers == list(range(numbers[0], numbers[0] + 5)) and desk.balance(org) == before + 5


amounts_of_lines = st.lists(st.integers(1, 400), min_size=1, max_size=3)
steps = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 200)), max_size=4)


@pytest.mark.heavy
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([("S", 1900), ("S", 600), ("S", 333), ("E", 0)]), amounts_of_lines, steps, st.booleans())
def test_an_invoice_and_its_credit_notes_are_what_the_ledger_says_to_the_unit(
    office: Office, kind: tuple[str, int], fen: list[int], parts: list[tuple[int, int]], ends_whole: bool
) -> None:
    desk = office.desk
    office.end_taxes()
    office.tax(*kind)
    org, was, _ = office.charged(*fen)
    issued = office.issue(org, was)
    notes: list[Any] = []
    for wanted in [*([part] for part in parts), *([[]] if ends_whole else [])]:
        try:
            notes.append(credit(office, issued, *wanted))
        except Refused as refusal:
            assert refusal.code in ("billing.credit-too-high", "billing.credit-line-unknown")
    granted = sum(fen) + 1_000
    assert desk.balance(org) == granted - issued.amount + sum(each.amount for each in notes)
    assert sum(each.amount for each in notes) <= issued.amount
    assert sum(each.tax for each in notes) <= issued.tax and sum(each.net for each in notes) <= issued.net
    for each in (issued, *notes):
        assert each.amount == sum(line.amount for line in each.lines) and each.net == sum(
            line.net for line in each.lines
        )
        assert each.tax == sum(part.tax for part in each.subtotals) and each.rounding >= 0
    if ends_whole:
        assert desk.balance(org) == granted
    assert desk.ask("billing:statement:get", org=org, month=was, unit=UNIT).charges == issued.amount
    now = desk.ask("billing:statement:get", org=org, month=month(desk), unit=UNIT)
    assert (now.credits, now.closing) == (sum(each.amount for each in notes), desk.balance(org))
