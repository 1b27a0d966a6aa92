"""Packages on statements, invoices and credit notes: each unit that was paid or came back is told once, with its tax."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from gongqi.doors.web.server import build as build_app
from gongqi.economy.billing import service
from gongqi.kernel.access import ANONYMOUS, SYSTEM
from gongqi.kernel.verbs import Caller, execute
from tests.economy.billing.conftest import CHINESE, FRENCH, Office, month, refused
from tests.economy.billing.rules import amounts, broken_rules
from tests.sim.desk import UNIT, Desk

pytestmark = pytest.mark.heavy


def bought(office: Office, price: int, credit: int = 0, *, days: int = 30, **more: Any) -> tuple[str, str]:
    """An organisation with an address and 1,000 fen that buys this package, and its subscription."""
    desk = office.desk
    org = desk.organisation(1_000)
    office.address(org)
    fund = desk.fund(credit - price) if credit else None
    package = desk.package(price, credit or price, fund, days=days, **more)
    return org, desk.do("billing:subscription:start", org=org, package=package).id


def next_month(desk: Desk) -> str:
    """Go to the second day of the next month; which one was left."""
    was, now = month(desk), desk.clock.now()
    first = (now.replace(day=1) + timedelta(days=32)).replace(day=2)
    desk.clock.advance(days=(first.date() - now.date()).days)
    return was


def statement(desk: Desk, org: str, of: str) -> Any:
    return desk.ask("billing:statement:get", org=org, month=of, unit=UNIT)


def subscription(desk: Desk, org: str) -> Any:
    [row] = desk.ask("billing:subscription:list", org=org).items
    return row


# ---- statements


def test_a_package_has_a_line_in_each_month_until_nothing_is_left_of_it(office: Office) -> None:
    desk = office.desk
    route = desk.priced_route()
    next_month(desk)
    org, bought_id = bought(office, 80, 100, days=60)
    desk.used(org, route, 30)
    first = next_month(desk)
    desk.used(org, route, 20)
    second = next_month(desk)
    before = statement(desk, org, second)
    desk.do("billing:subscription:end", subscription=bought_id)
    assert statement(desk, org, second) == before, "what was ended since then ran on when the month was over"
    third = next_month(desk)
    told = [statement(desk, org, each).packages for each in (first, second, third)]
    assert [
        (line.outcome, line.paid, line.paid_back, line.credit_opening, line.credit_bought, line.credit_used,
         line.credit_returned, line.credit_closing) for [line] in told
    ] == [
        ("running", 80, 0, 0, 100, 30, 0, 70), ("running", 0, 0, 70, 0, 20, 0, 50), ("ended", 0, 40, 50, 0, 0, 50, 0),
    ]  # fmt: skip
    assert [(each.route, each.amount) for each in statement(desk, org, first).included] == [(route, 30)]
    assert not statement(desk, org, month(desk)).packages
    [(line, *_)] = [statement(desk, org, first).movements[1:]]
    assert (line.kind, line.item, line.amount) == ("billing.package-bought", told[0][0].package, -80)


def test_a_statement_says_what_became_of_a_package(office: Office) -> None:
    desk = office.desk
    next_month(desk)
    route = desk.priced_route()
    running, _ = bought(office, 10, days=90)
    all_used, _ = bought(office, 10, days=10)
    over, _ = bought(office, 10, days=10)
    ended, ending = bought(office, 10, days=10)
    desk.used(all_used, route, 10)
    desk.do("billing:subscription:end", subscription=ending)
    how = (running, all_used, over, ended)
    assert [statement(desk, org, month(desk)).packages[0].outcome for org in how] == [
        "running", "used-up", "running", "ended",
    ]  # fmt: skip
    desk.clock.advance(days=11)
    desk.turn()
    was = month(desk)
    wanted = [("running", 10), ("used-up", 0), ("expired", 0), ("ended", 0)]
    for _ in range(2):
        lines = [statement(desk, org, was).packages[0] for org in how]
        assert [(line.outcome, line.credit_closing) for line in lines] == wanted
        next_month(desk)


def test_packages_are_rows_of_the_csv_and_its_amounts_still_make_the_closing_balance(office: Office) -> None:
    desk = office.desk
    org, _ = bought(office, 80)
    desk.used(org, desk.priced_route(), 5)
    told = statement(desk, org, month(desk))
    rows = list(csv.DictReader(io.StringIO(service.as_csv(told))))
    assert sum(int(row["amount"]) for row in rows[:-1] if row["amount"]) == int(rows[-1]["amount"]) == 920
    [line], [included] = ([row for row in rows if row["row"] == kind] for kind in ("package", "included"))
    assert (line["paid"], line["credit_bought"], line["credit_used"], line["credit_closing"]) == ("80", "80", "5", "75")
    assert (included["package"], included["credit_used"]) == (line["package"], "5")


# ---- invoices


@pytest.mark.parametrize(
    ("category", "rate_bp", "buyer"),
    [
        ("S", 1900, {}),
        ("Z", 0, {}),
        ("E", 0, {}),
        ("AE", 0, {"country": "FR", "vat_id": FRENCH}),
        ("K", 0, {"country": "FR", "vat_id": FRENCH}),
        ("G", 0, {"country": "CN", "vat_id": CHINESE, "registration": CHINESE[2:]}),
        ("O", 0, {}),
    ],
)
def test_a_package_is_a_line_of_its_month_and_what_it_pays_for_is_told_and_not_charged(
    office: Office, category: str, rate_bp: int, buyer: dict[str, Any]
) -> None:
    desk = office.desk
    route = desk.priced_route()
    office.tax(category, rate_bp)
    org, bought_id = bought(office, 119, 200)
    office.address(org, **buyer)
    desk.used(org, route, 60)
    desk.used(org, route, 238, spends="money")
    was = next_month(desk)
    issued = office.issue(org, was)
    assert [(line.what, line.receiver, line.amount) for line in issued.lines] == [
        ("calls", route, 238), ("package", bought_id, 119),
    ]  # fmt: skip
    assert (issued.amount, issued.tax) == (357, 57 if rate_bp else 0)
    assert [(each.subscription, each.route, each.amount) for each in issued.included] == [(bought_id, route, 60)]
    document = office.xml(issued)
    assert broken_rules(document) == []
    assert amounts(document, "TotalPrepaidAmount") == ["3.57"]
    said = document.decode()
    assert "Credit of 2.00 CNY for calls, sold on" in said and "for 0.60 CNY" in said
    assert subscription(desk, org).invoice == issued.id


def test_a_month_in_which_a_package_paid_for_all_has_no_invoice(office: Office) -> None:
    desk = office.desk
    org, _ = bought(office, 50, days=90)
    next_month(desk)
    desk.used(org, desk.priced_route(), 5)
    was = next_month(desk)
    with refused("billing.nothing-charged"):
        office.issue(org, was)
    assert [each.amount for each in statement(desk, org, was).included] == [5]


def test_a_package_has_the_tax_of_the_moment_of_its_sale_and_calls_that_of_the_end_of_the_month(office: Office) -> None:
    desk = office.desk
    next_month(desk)
    before = office.tax("S", 1900)
    org, _ = bought(office, 119)
    desk.clock.advance(days=1)
    desk.do("billing:tax:end", tax=before)
    office.tax("S", 700)
    desk.used(org, desk.priced_route(), 107, spends="money")
    issued = office.issue(org, next_month(desk))
    assert [(each.rate_bp, each.amount, each.tax) for each in issued.subtotals] == [(700, 107, 7), (1900, 119, 19)]
    assert broken_rules(office.xml(issued)) == []


def test_a_package_has_the_tax_of_its_models_where_it_is_one_and_else_that_of_all(office: Office) -> None:
    desk = office.desk
    reduced, exempt, plain = (desk.priced_route() for _ in range(3))
    office.tax("S", 1900)
    office.tax("S", 700, routes=[reduced])
    office.tax("E", routes=[exempt], article="UStG § 4 Nr. 21")
    wanted = (([reduced], 700), ([plain], 1900), ([exempt], 0), ([reduced, exempt], 1900), (None, 1900))
    for routes, rate_bp in wanted:
        org, _ = bought(office, 10, routes=routes)
        made = office.issue(org, next_month(desk))
        assert [line.rate_bp for line in made.lines] == [rate_bp]


# ---- credit notes


@pytest.mark.parametrize("is_invoiced_first", [True, False])
def test_what_comes_back_of_a_package_is_a_credit_note_of_its_own_and_moves_no_more_money(
    office: Office, is_invoiced_first: bool
) -> None:
    desk = office.desk
    office.tax("S", 1900)
    org, bought_id = bought(office, 119, 200, days=20 if not is_invoiced_first else 90)
    desk.used(org, desk.priced_route(), 100)
    was = next_month(desk)
    if is_invoiced_first:
        issued = office.issue(org, was)
        desk.do("billing:subscription:end", subscription=bought_id)
    else:
        desk.clock.advance(days=20)
        desk.turn()
        issued = office.issue(org, was)
    assert subscription(desk, org).credit_note is None
    before = desk.balance(org)
    assert before == 1_000 - 119 + 59, "119 of 200, rounded down"
    desk.turn()
    desk.turn()
    [row] = desk.ask("billing:invoice:list", org=org, corrects=issued.id).items
    note = desk.ask("billing:invoice:get", invoice=row.id)
    assert (note.amount, note.net, note.tax, note.rounding) == (59, 49, 9, 1)
    assert subscription(desk, org).credit_note == note.id and desk.balance(org) == before
    assert [(line.what, line.receiver, line.amount) for line in note.lines] == [("package", bought_id, 59)]
    document = office.xml(note)
    assert broken_rules(document) == [] and f"on {subscription(desk, org).ended_at:%Y-%m-%d}" in document.decode()
    assert desk.ask("ledger:book:check").findings == []


def test_of_a_package_that_was_used_up_there_is_no_credit_note(office: Office) -> None:
    desk = office.desk
    org, _ = bought(office, 10, days=20)
    desk.used(org, desk.priced_route(), 10)
    issued = office.issue(org, next_month(desk))
    desk.clock.advance(days=20)
    desk.turn()
    assert subscription(desk, org).state == "ended"
    assert not desk.ask("billing:invoice:list", corrects=issued.id).items


def test_a_line_of_a_package_is_credited_by_hand_only_after_its_end_and_by_the_foundation(office: Office) -> None:
    desk = office.desk
    org, bought_id = bought(office, 100, days=90)
    desk.used(org, desk.priced_route(), 70)
    issued = office.issue(org, next_month(desk))

    def credit(amount: int) -> Any:
        given = {"invoice": issued.id, "reason": "it was slow"}
        return desk.do("billing:invoice:credit", lines=[{"position": 1, "amount": amount}], **given)

    with refused("billing.credit-of-running-package"):
        credit(1)
    desk.do("billing:subscription:end", subscription=bought_id)
    with refused("billing.credit-of-running-package"):
        credit(1)
    desk.turn()
    with refused("billing.credit-too-high"):
        credit(71)
    home, before = desk.balance(office.home), desk.balance(org)
    desk.do("ledger:credit:grant", owner=office.home, unit=UNIT, amount=70)
    credit(70)
    assert (desk.balance(office.home), desk.balance(org)) == (home, before + 70) and before == 930
    assert desk.ask("ledger:book:check").findings == []


# ---- pages


def browser(desk: Desk) -> TestClient:
    """In which the operator is signed in, at this moment."""

    def run(verb: str, actor: Any, **values: Any) -> Any:
        declared = desk.kernel.house.verbs[verb]
        return execute(desk.kernel, declared, Caller(actor), declared.input.model_validate(values))

    link = run("members:signin:link", SYSTEM, party=desk.operator.id).link
    session = run("members:signin:redeem", ANONYMOUS, secret=link.rsplit("/", 1)[1])
    return TestClient(build_app(desk.kernel), cookies={"gongqi_session": session.secret})


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("zh", ("已由组织结束", "套餐内的调用", "不是法律条文", "退回日期")),
        ("en", ("Ended by the", "packages paid for", "statute", "Given back on")),
    ],
)
def test_packages_are_on_the_pages_in_both_languages(office: Office, language: str, words: tuple[str, ...]) -> None:
    desk = office.desk
    org, bought_id = bought(office, 80, 100)
    desk.used(org, desk.priced_route(), 60)
    desk.do("billing:subscription:end", subscription=bought_id)
    was = next_month(desk)
    issued = office.issue(org, was)
    desk.turn()
    paths = [f"/billing/statement/{org}/{was}", f"/billing/invoice/{issued.id}"]
    paths.append(f"/billing/invoice/{subscription(desk, org).credit_note}")
    reader = browser(desk)
    pages = [reader.get(path, params={"lang": language}) for path in paths]
    assert [page.status_code for page in pages] == [200, 200, 200]
    text = "".join(page.text for page in pages)
    assert all(word in text for word in words) and "None" not in text
    assert "0.32" in pages[0].text and "0.60" in pages[1].text and "0.32" in pages[2].text
